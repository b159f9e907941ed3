"""Which lock does a statement take on PostgreSQL, and what conflicts with it?

After the manual: "Explicit Locking", table 13.2, and the pages of the statements. In
doubt the stronger lock: then the route looks for more than may be in the way.
"""

from __future__ import annotations

import re
from functools import lru_cache

from migration_route.vendors.interface import Limit, Wish
from migration_route.vendors.lexer import POSTGRESQL
from migration_route.vendors.statements import (
    NAME,
    code_of,
    first_word,
    names_behind,
    names_in,
)

ACCESS_SHARE = "AccessShareLock"
ROW_SHARE = "RowShareLock"
ROW_EXCLUSIVE = "RowExclusiveLock"
SHARE_UPDATE = "ShareUpdateExclusiveLock"
SHARE = "ShareLock"
SHARE_ROW = "ShareRowExclusiveLock"
EXCLUSIVE = "ExclusiveLock"
ACCESS_EXCLUSIVE = "AccessExclusiveLock"

_MODES = (
    ACCESS_SHARE,
    ROW_SHARE,
    ROW_EXCLUSIVE,
    SHARE_UPDATE,
    SHARE,
    SHARE_ROW,
    EXCLUSIVE,
    ACCESS_EXCLUSIVE,
)
# Each mode with those that it conflicts with, as places in the list above.
_CONFLICTS = {
    ACCESS_SHARE: (7,),
    ROW_SHARE: (6, 7),
    ROW_EXCLUSIVE: (4, 5, 6, 7),
    SHARE_UPDATE: (3, 4, 5, 6, 7),
    SHARE: (2, 3, 5, 6, 7),
    SHARE_ROW: (2, 3, 4, 5, 6, 7),
    EXCLUSIVE: (1, 2, 3, 4, 5, 6, 7),
    ACCESS_EXCLUSIVE: (0, 1, 2, 3, 4, 5, 6, 7),
}
_ALTER = rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME}"
_COLUMNS = r" ?\([^()]*\)"
# The first that fits tells the mode; statements of the same words stand together.
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), mode)
    for pattern, mode in (
        (rf"{_ALTER} VALIDATE CONSTRAINT {NAME}$", SHARE_UPDATE),
        (rf"{_ALTER} ALTER (?:COLUMN )?{NAME} SET STATISTICS [-\d ]+$", SHARE_UPDATE),
        (rf"{_ALTER} ALTER (?:COLUMN )?{NAME} (?:RE)?SET{_COLUMNS}$", SHARE_UPDATE),
        (rf"{_ALTER} (?:RE)?SET(?!.*user_catalog_table){_COLUMNS}$", SHARE_UPDATE),
        (rf"{_ALTER} (?:CLUSTER ON {NAME}|SET WITHOUT CLUSTER)$", SHARE_UPDATE),
        (
            rf"{_ALTER} ADD (?:CONSTRAINT {NAME} )?FOREIGN KEY{_COLUMNS} "
            rf"REFERENCES {NAME}(?:{_COLUMNS})?[\w ]*$",
            SHARE_ROW,
        ),
        (
            rf"{_ALTER} (?:ENABLE|DISABLE)(?: REPLICA| ALWAYS)? TRIGGER {NAME}$",
            SHARE_ROW,
        ),
        (rf"ALTER INDEX (?:IF EXISTS )?{NAME} RENAME TO {NAME}$", SHARE_UPDATE),
        (rf"ALTER INDEX (?:IF EXISTS )?{NAME} (?:RE)?SET{_COLUMNS}$", SHARE_UPDATE),
        (r"ALTER (?:TABLE|INDEX|(?:MATERIALIZED )?VIEW|FOREIGN TABLE)\b", ACCESS_EXCLUSIVE),
        (r"ALTER SEQUENCE\b", SHARE_ROW),
        (r"CREATE (?:UNIQUE )?INDEX\b", SHARE),
        (r"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER\b", SHARE_ROW),
        (r"CREATE (?:OR REPLACE )?(?:RULE|POLICY)\b", ACCESS_EXCLUSIVE),
        (r"CREATE .*\bPARTITION OF\b", ACCESS_EXCLUSIVE),
        (r"CREATE STATISTICS\b|COMMENT ON\b", SHARE_UPDATE),
        (r"(?:CREATE|ALTER)\b", ACCESS_SHARE),
        (r"DROP (?:TYPE|FUNCTION|SCHEMA|EXTENSION|DOMAIN)\b", ACCESS_SHARE),
        (r"(?:DROP|TRUNCATE|CLUSTER)\b|VACUUM (?:\(|FULL\b)", ACCESS_EXCLUSIVE),
        # SHARE on the table, but no query can be planned without its indexes.
        (r"REINDEX\b", ACCESS_EXCLUSIVE),
        (r"REFRESH MATERIALIZED VIEW CONCURRENTLY\b", EXCLUSIVE),
        (r"REFRESH\b", ACCESS_EXCLUSIVE),
        (r"DO\b.*\b(?:ALTER|CREATE|DROP|TRUNCATE|LOCK)\b", ACCESS_EXCLUSIVE),
    )
)
_LETS_GO_OF_KEYS = re.compile(
    r"DROP TABLE\b|TRUNCATE\b|ALTER TABLE\b.*\b(?:DROP|TYPE)\b", re.IGNORECASE
)
_LOCK = re.compile(r"LOCK\b(?:.*\bIN ([A-Z ]+) MODE\b)?", re.IGNORECASE)
_CONCURRENTLY = re.compile(
    r"(?:CREATE|DROP|REINDEX|ALTER)\b(?!.*\bVIEW\b).*\bCONCURRENTLY\b", re.IGNORECASE
)
_FIRST_WORDS = frozenset(
    (
        "alter",
        "create",
        "drop",
        "truncate",
        "cluster",
        "vacuum",
        "reindex",
        "refresh",
        "comment",
        "lock",
        "do",
    )
)
_OTHER = Wish(limit=Limit.NONE)


def conflict(wanted: str, held: str) -> bool:
    """Tell whether one who wants this mode waits for one who holds that mode."""
    return _MODES.index(held) in _CONFLICTS[wanted] if held in _MODES else False


def wish_of(sql: str) -> Wish:
    """Tell what a statement, or several in one text, wants."""
    if first_word(sql) not in _FIRST_WORDS and ";" not in sql and not _starts_oddly(sql):
        return _OTHER
    return _read(sql)


def _starts_oddly(sql: str) -> bool:
    return sql.lstrip().startswith(("--", "/*"))


@lru_cache(maxsize=256)
def _read(sql: str) -> Wish:
    names: set[tuple[tuple[str, ...], str]] = set()
    limit, parents = Limit.NONE, False
    for code in code_of(sql, POSTGRESQL):
        if _CONCURRENTLY.match(code):
            return Wish(limit=Limit.NONE, may_repeat=False)
        mode = mode_of(code)
        if mode is None:
            continue
        limit = Limit.SHORT
        referred = names_behind("REFERENCES", code)
        names |= {(name, mode) for name in names_in(code) - referred}
        names |= {(name, SHARE_ROW) for name in referred}
        parents = parents or (mode == ACCESS_EXCLUSIVE and _drops(code))
    return Wish(limit=limit, names=frozenset(names), reaches_parents=parents)


def strongest(one: str, other: str) -> str:
    """Return the mode that keeps out all whom either of these two keeps out."""
    if {one, other} == {SHARE, SHARE_UPDATE}:
        return SHARE_ROW  # neither of them keeps out all that the other one does
    return max(one, other, key=_MODES.index)


def mode_of(code: str) -> str | None:
    """Return the mode of one statement, without comments and literals, for the tables
    that it is about; None where it is none that defines something."""
    if found := _LOCK.match(code):
        words = (found[1] or "ACCESS EXCLUSIVE").title().replace(" ", "")
        return f"{words}Lock" if f"{words}Lock" in _MODES else ACCESS_EXCLUSIVE
    return next((mode for pattern, mode in _RULES if pattern.match(code)), None)


def _drops(code: str) -> bool:
    return _LETS_GO_OF_KEYS.match(code) is not None
