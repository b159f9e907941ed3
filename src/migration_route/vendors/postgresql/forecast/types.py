"""Is a column stored anew when its type is changed?

After the manual, ALTER TABLE, Notes: not "if the old type is either binary coercible to
the new type or an unconstrained domain over the new type", nor where a length or a
precision only grows (`varchar_support`, `numeric_support` and `temporal_support` in the
server's source). In doubt it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_SHORT = {
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "bool": "boolean",
    "float": "double precision",
    "float8": "double precision",
    "float4": "real",
    "decimal": "numeric",
    "dec": "numeric",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}
_GROWING = frozenset(("character varying", "bit varying"))
_PRECISE = frozenset(
    (
        "timestamp without time zone",
        "timestamp with time zone",
        "time without time zone",
        "time with time zone",
    )
)
SERIAL = {
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
    "smallserial": "smallint",
    "serial2": "smallint",
}
"""The types that are a column with a sequence, and what the column is."""

_ARGUMENTS = re.compile(r"\(([\d\s,]*)\)")

Type = tuple[str, tuple[int, ...]]
"""A type's name as `format_type` has it, and its arguments."""


def type_of(text: str) -> Type:
    """Read a type: `varchar(20)` is ("character varying", (20,))."""
    found = _ARGUMENTS.search(text)
    bare = " ".join(_ARGUMENTS.sub(" ", text).lower().replace("[ ]", "[]").split())
    arguments = (
        tuple(int(part) for part in found[1].split(",") if part.strip()) if found else ()
    )
    return _SHORT.get(bare, bare), arguments


def is_rewritten(old: str, new: str, *, is_same_inside: Callable[[str, str], bool]) -> bool:
    """Tell whether a column of the old type is stored anew as the new one.

    `is_same_inside` asks the catalog whether two types are stored in the same way.
    """
    (was, had), (becomes, has) = type_of(old), type_of(new)
    if (was, had) == (becomes, has):
        return False
    if was == becomes:
        if was in _GROWING | _PRECISE:
            return not (not has or (had and has >= had))
        if was == "numeric":
            return not (not has or (had and _scale(has) == _scale(had) and has >= had))
        return True
    # In doubt: whether a timestamp is stored anew with its zone lies with the session.
    return bool(has) or not is_same_inside(was, becomes)


def _scale(arguments: tuple[int, ...]) -> int:
    return arguments[1] if len(arguments) > 1 else 0
