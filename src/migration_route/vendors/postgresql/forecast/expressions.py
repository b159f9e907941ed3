"""The functions in an expression, and whether a change of its type rewrites a column.

After the manual, ALTER TABLE, Notes: not "if the old type is either binary coercible to the
new type or an unconstrained domain over the new type", nor where a length or a precision
only grows (`varchar_support`, `numeric_support` and `temporal_support` in the server's
source). In doubt it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from migration_route.vendors.sql_statements import TokenStream

# Words before a bracket that are not functions of the catalog.
_NO_FUNCTIONS = frozenset(
    {
        "all", "and", "any", "array", "as", "by", "cast", "char", "character", "coalesce",
        "conflict", "current_time", "current_timestamp", "decimal", "distinct", "else",
        "exists", "filter", "from", "greatest", "group", "having", "in", "is", "least",
        "localtime", "localtimestamp", "not", "nullif", "numeric", "on", "or", "over",
        "returning", "row", "select", "set", "some", "then", "using", "values", "varchar",
        "varying", "when", "where", "within",
    }
)  # fmt: skip
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
"""The types that are a column with a sequence, and the type of that column."""

_ARGUMENTS = re.compile(r"\(([\d\s,]*)\)")

Type = tuple[str, tuple[int, ...]]
"""A type's name as `format_type` writes it, and its arguments."""


def functions_in(expression: TokenStream) -> set[str]:
    pairs = zip(expression.tokens, expression.tokens[1:], strict=False)
    return {
        first.plain
        for first, second in pairs
        if first.names and second.word == "(" and first.plain not in _NO_FUNCTIONS
    }


def type_of(text: str) -> Type:
    """Parse a type: `varchar(20)` is ("character varying", (20,))."""
    match = _ARGUMENTS.search(text)
    bare = " ".join(_ARGUMENTS.sub(" ", text).lower().replace("[ ]", "[]").split())
    arguments = (
        tuple(int(part) for part in match[1].split(",") if part.strip()) if match else ()
    )
    return _SHORT.get(bare, bare), arguments


def is_rewritten(old: str, new: str, *, is_same_inside: Callable[[str, str], bool]) -> bool:
    """Return whether a change from the old type to the new one rewrites the column.

    `is_same_inside` asks the catalog whether two types are stored in the same way.
    """
    (old_name, before), (new_name, after) = type_of(old), type_of(new)
    if (old_name, before) == (new_name, after):
        return False
    if old_name == new_name:
        if old_name in _GROWING | _PRECISE:
            return not (not after or (before and after >= before))
        if old_name == "numeric":
            same_scale = _scale(after) == _scale(before)
            return not (not after or (before and same_scale and after >= before))
        return True
    # In doubt: whether a timestamp is rewritten with its zone depends on the session.
    return bool(after) or not is_same_inside(old_name, new_name)


def _scale(arguments: tuple[int, ...]) -> int:
    return arguments[1] if len(arguments) > 1 else 0
