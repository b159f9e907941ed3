"""Which statements would leave the one transaction of a rehearsal in place, outlive it, or
lift its bounds?
"""

from __future__ import annotations

import re

from migration_route.vendors.lexer import POSTGRESQL, Dialect
from migration_route.vendors.postgresql.splitting import statements_of

# Nothing is read closely in which none of these words stands.
_SUSPECT = re.compile(
    r"commit|end|abort|rollback|prepare|discard|reset|setval|timeout|transaction|"
    r"read\s+write|characteristics",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"^(?:commit|end|abort|prepare transaction|"
    r"rollback(?!(?: work| transaction)? to\b))\b"
)
_MODES = re.compile(
    r"\bread write\b|^set session characteristics\b|^discard\b|^reset all\b"
)
_READ_ONLY = re.compile(r"\b(?:default_)?transaction_read_only\b", re.IGNORECASE)
_SETVAL = re.compile(r"\bsetval\s*\(", re.IGNORECASE)
_OWN_BOUND = re.compile(
    r"^(?:set|reset)\b.*\b(?:lock_timeout|\w*statement_timeout|\w*session_timeout)\b"
)


def leaving(sql: str, dialect: Dialect = POSTGRESQL) -> str:
    """Tell what a text does that must not be sent; "" where nothing."""
    if not _SUSPECT.search(sql):
        return ""
    if _READ_ONLY.search(sql):  # as a literal of set_config as well
        return "it changes whether the session may write"
    if _SETVAL.search(sql):
        return "setval changes a sequence for good: no rollback takes that back"
    statements = statements_of(sql, dialect)
    for statement in statements:
        if _ENDS.match(statement):
            words = " ".join(statement.split()[:2]).upper()
            return f"{words} would end the transaction of the rehearsal"
        if _MODES.search(statement):
            return "it changes the modes or the settings of the session"
    if len(statements) > 1 and any(map(_OWN_BOUND.match, statements)):
        return (
            "it sets a time limit together with other statements, which would have that "
            "instead of the limit of the rehearsal"
        )
    return ""
