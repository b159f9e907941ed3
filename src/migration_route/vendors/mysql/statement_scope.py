"""What a statement of MySQL or MariaDB affects beyond its own database."""

from __future__ import annotations

import re

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.mysql.locks import dialect_of_session
from migration_route.vendors.sql_lexer import (
    MYSQL,
    MYSQL_MODES,
    Dialect,
    LexemeKind,
    TooManyReadings,
    readings,
)
from migration_route.vendors.sql_statements import SqlStatement, parts_of

_OF_THE_SERVER = re.compile(
    r"^((?:create|alter|drop|rename)\s+(?:or\s+replace\s+)?(?:definer\s*=.*?\s)?(?:user|role|database|schema|"
    r"server|tablespace|event)|grant|revoke|set\s+(?:global|persist|password|"
    r"@@(?:global|persist)\b)|flush|use|purge|reset|shutdown|install|uninstall)\b",
    re.IGNORECASE,
)
_SETS_THE_SERVER = re.compile(
    r"^(set)\b.*(?:\b(?:global|persist|persist_only)\s+\w|@@(?:global|persist))",
    re.IGNORECASE,
)
_NAMES = frozenset({LexemeKind.WORD, LexemeKind.QUOTED})
_BEFORE_TABLES = frozenset(
    {"from", "join", "into", "update", "table", "on", "references", "exists", "to", "like"}
)


def scope_beyond_database(
    sql: str, home: str, connection: BaseDatabaseWrapper | None
) -> str:
    """Return how a text affects the whole server or names the database `home`; "" if it
    does neither. With an open connection, it is read in the mode of its session."""
    try:
        for dialect in _modes(sql, connection):
            for reading in readings(sql, dialect):
                for part in parts_of(reading, dialect):
                    if why := _leaves(part, home):
                        return why
    except TooManyReadings:
        return "it has too many comments that only some servers execute"
    return ""


def _modes(sql: str, connection: BaseDatabaseWrapper | None) -> tuple[Dialect, ...]:
    """Return the modes in which a text may be read; the session is queried where they make
    a difference."""
    if "sql_mode" in sql.lower():
        return MYSQL_MODES  # it may change between two statements
    session = None if connection is None else connection.connection
    if session is None or not ("\\" in sql or '"' in sql):
        return (MYSQL,)
    return (dialect_of_session(session),)


def _leaves(part: SqlStatement, home: str) -> str:
    for pattern in (_OF_THE_SERVER, _SETS_THE_SERVER):
        if found := pattern.match(part.code):
            return f"{' '.join(found[1].split()).upper()} affects the whole server"
    return f"it names the database {home!r}" if home and _names(part, home) else ""


def _names(part: SqlStatement, home: str) -> bool:
    """Return whether a statement names a database: a name of two parts can also be that of
    a column, whose table is named somewhere without a dot, or that of an alias."""
    texts = [one.text.strip('`"').lower() for one in part.names]
    home = home.lower()

    def follows(position: int, text: str) -> bool:
        return position < len(texts) and texts[position] == text

    named = [
        position
        for position, lexeme in enumerate(part.names)
        if lexeme.kind in _NAMES and texts[position] == home
    ]
    alone = [
        position
        for position in named
        if not follows(position + 1, ".") and not (position and texts[position - 1] == ".")
    ]
    for position in named:
        if not follows(position + 1, ".") or (position and texts[position - 1] == "."):
            continue
        has_three_parts = follows(position + 3, ".")
        is_table = position > 0 and texts[position - 1] in _BEFORE_TABLES
        if has_three_parts or is_table or not alone:
            return True
    return False
