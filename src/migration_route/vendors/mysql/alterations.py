"""Which algorithm and which lock does an action of ALTER TABLE take?

After the manuals: MySQL 8.4, 17.12.1 "Online DDL Operations"; MariaDB, "InnoDB Online DDL
Operations with the INSTANT (INPLACE) Alter Algorithm". In doubt a copy of the table, and
nobody writes meanwhile. Whatever the algorithm, the definition is locked for a moment at
its beginning and at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from migration_route.vendors.lexer import Kind
from migration_route.vendors.mysql.schema import Column, Facts, Server
from migration_route.vendors.words import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an action costs."""

    algorithm: str
    lock: str
    rewrites: bool = False  # in place, but every row anew
    scans: bool = False
    is_understood: bool = True
    parents: tuple[str, ...] = ()  # tables that are locked along with it


INSTANT = Cost(algorithm="instant", lock="NONE")
BUILD = Cost(algorithm="inplace", lock="NONE", scans=True)
IN_PLACE = Cost(algorithm="inplace", lock="NONE")
REBUILD = Cost(algorithm="inplace", lock="NONE", rewrites=True, scans=True)
COPY = Cost(algorithm="copy", lock="SHARED", rewrites=True, scans=True)
SLOW_BUILD = Cost(algorithm="inplace", lock="SHARED", scans=True)
_KINDS = ("CHECK", "FOREIGN", "UNIQUE", "PRIMARY")
_UNKNOWN = replace(COPY, lock="EXCLUSIVE", is_understood=False)


def alteration(action: Reading, table: Facts, server: Server) -> Cost:
    """Return the cost of one action on a table."""
    cost = _cost(action, table, server)
    if not table.is_innodb and cost.algorithm != "instant":
        return replace(COPY, is_understood=cost.is_understood, parents=cost.parents)
    return cost


def _cost(action: Reading, table: Facts, server: Server) -> Cost:
    for word, cost_of in _ACTIONS.items():
        if action.accept(word):
            return cost_of(action, table, server)
    return _UNKNOWN


def _alter(action: Reading, table: Facts, server: Server) -> Cost:
    del table, server
    if action.accept("INDEX"):
        return INSTANT
    action.accept("COLUMN")
    action.name()
    is_default = action.sees("SET", "DEFAULT") or action.sees("DROP", "DEFAULT")
    return INSTANT if is_default else _UNKNOWN


def _modify(action: Reading, table: Facts, server: Server) -> Cost:
    action.accept("COLUMN")
    name = action.name()
    return _redefined(action, table, server, name[-1] if name else "")


def _change(action: Reading, table: Facts, server: Server) -> Cost:
    action.accept("COLUMN")
    name, new = action.name(), action.name()
    cost = _redefined(action, table, server, name[-1] if name else "")
    renames = name != new
    return (
        IN_PLACE if renames and cost == INSTANT and not _renames_at_once(server) else cost
    )


def _rename(action: Reading, table: Facts, server: Server) -> Cost:
    del table
    if action.accept("COLUMN") and _renames_at_once(server):
        return INSTANT
    return IN_PLACE


def _renames_at_once(server: Server) -> bool:
    return server.is_mariadb or server.version >= (8, 0, 28)


def _always(cost: Cost) -> Callable[[Reading, Facts, Server], Cost]:
    return lambda *_: cost


def _add(action: Reading, table: Facts, server: Server) -> Cost:
    nameless = any(action.sees("CONSTRAINT", word) for word in _KINDS)
    if action.accept("CONSTRAINT") and not nameless:
        action.name()
    if action.accept("FOREIGN", "KEY") or action.accept("CHECK"):
        return COPY  # in place only while nobody checks them
    if action.accept("PRIMARY", "KEY"):
        return REBUILD
    if action.accept("FULLTEXT") or action.accept("SPATIAL"):
        return SLOW_BUILD
    if action.accept("UNIQUE") or action.accept("INDEX") or action.accept("KEY"):
        return BUILD
    action.accept("COLUMN")
    action.accept("IF", "NOT", "EXISTS")
    return _add_column(action, table, server)


def _add_column(action: Reading, table: Facts, server: Server) -> Cost:
    if action.sees("("):
        return COPY
    words = Reading(action.rest)
    if words.has("AUTO_INCREMENT"):
        return replace(REBUILD, lock="SHARED")
    if words.has("CHECK") or words.has("REFERENCES"):
        return COPY
    if words.has("AS") or words.has("GENERATED"):
        if words.has("STORED") or words.has("PERSISTENT"):
            return COPY
        return COPY if words.has("NOT", "NULL") else INSTANT
    if words.skip_to("DEFAULT") and not _is_constant(words):
        return COPY
    words = Reading(action.rest)
    if words.has("UNIQUE") or words.has("PRIMARY", "KEY"):
        return REBUILD
    is_odd = table.is_compressed or table.has_fulltext
    moves = words.has("FIRST") or words.has("AFTER")
    is_new = server.is_mariadb or server.version >= (8, 0, 29)
    is_quick = is_new or (server.version >= (8, 0, 12) and not moves)
    return INSTANT if is_quick and not is_odd else REBUILD


def _is_constant(words: Reading) -> bool:
    words.accept_any("-", "+")
    first = words.rest[0] if words.rest else None
    return first is not None and (
        first.kind in {Kind.LITERAL, Kind.NUMBER} or first.word in {"NULL", "TRUE", "FALSE"}
    )


def _drop(action: Reading, table: Facts, server: Server) -> Cost:
    if action.accept("FOREIGN", "KEY"):
        action.accept("IF", "EXISTS")
        name = action.name()
        parent = table.keys.get(name[-1].lower()) if name else None
        return replace(IN_PLACE, parents=(parent,) if parent else tuple(table.parents))
    if action.accept("PRIMARY", "KEY"):
        return COPY
    if action.accept("INDEX") or action.accept("KEY"):
        return IN_PLACE
    if action.accept("CHECK"):
        return IN_PLACE
    if action.accept("CONSTRAINT"):
        return replace(IN_PLACE, parents=tuple(table.parents))
    action.accept("COLUMN")
    action.accept("IF", "EXISTS")
    name = action.name()
    label = name[-1].lower() if name else ""
    if label not in table.columns or label in table.bound:
        return COPY
    column = table.columns[label]
    if "stored" in column.extra or "persistent" in column.extra:
        return REBUILD
    is_new = server.is_mariadb or server.version >= (8, 0, 29)
    is_odd = table.is_compressed or table.has_fulltext or label in table.indexed
    return INSTANT if is_new and not is_odd else REBUILD


def _redefined(action: Reading, table: Facts, server: Server, name: str) -> Cost:
    """MODIFY and CHANGE name the column as it shall be: what differs costs."""
    column = table.columns.get(name.lower())
    if column is None or column.extra not in {"", "auto_increment"}:
        return COPY
    words = Reading(action.rest)
    if any(
        words.has(w) for w in ("AS", "GENERATED", "CHECK", "FIRST", "AFTER", "CHARACTER")
    ):
        return COPY
    if words.has("AUTO_INCREMENT") != (column.extra == "auto_increment"):
        return COPY
    if collation := words.name_behind("COLLATE"):
        if collation[-1] != column.collation.lower():
            return COPY
    elif column.collation and column.collation != table_default(table):
        return COPY
    kind = str(words.until("NOT", "NULL", "DEFAULT", "COLLATE", "COMMENT", "UNIQUE",
                           "AUTO_INCREMENT", "PRIMARY"))  # fmt: skip
    cost = _change_of_type(kind, column, server)
    is_nullable = not Reading(words.rest).has("NOT", "NULL")
    if cost != COPY and is_nullable != column.is_nullable:
        # In place to NOT NULL only under a strict mode, and not for long texts.
        return REBUILD if is_nullable else COPY
    return cost


def table_default(table: Facts) -> str:
    """Return the collation that most columns of a table have."""
    found = [column.collation for column in table.columns.values() if column.collation]
    return max(set(found), key=found.count) if found else ""


def _change_of_type(kind: str, column: Column, server: Server) -> Cost:
    bare, was = _bare(kind), _bare(column.type)
    if bare == was:
        return INSTANT
    if not (bare.startswith("varchar(") and was.startswith("varchar(")):
        return COPY
    length, old = int(bare[8:-1]), int(was[8:-1])
    width = column.bytes // old if old else 4
    grows_within = length >= old and (length * width <= 255 or column.bytes > 255)
    if not grows_within:
        return COPY
    return INSTANT if server.is_mariadb else IN_PLACE


def _bare(kind: str) -> str:
    """Return a type as information_schema writes it, but for widths of integers."""
    text = "".join(kind.lower().split()).replace("integer", "int")
    if text.startswith(("int", "bigint", "smallint", "tinyint", "mediumint")):
        name, _, rest = text.partition("(")
        text = name + rest.rpartition(")")[2] if rest else name
    return {"bool": "tinyint", "doubleprecision": "double", "numeric": "decimal"}.get(
        text, text
    )


_ACTIONS: dict[str, Callable[[Reading, Facts, Server], Cost]] = {
    "ADD": _add,
    "DROP": _drop,
    "ALTER": _alter,
    "MODIFY": _modify,
    "CHANGE": _change,
    "RENAME": _rename,
    "COMMENT": _always(IN_PLACE),
    "AUTO_INCREMENT": _always(IN_PLACE),
    "FORCE": _always(REBUILD),
    "ENGINE": _always(COPY),
    "CONVERT": _always(COPY),
}
