"""What kind of statement is this, and which names stand in it?

Read with a few patterns, not parsed: a name too many only makes the route look at one
table more.
"""

from __future__ import annotations

import re

_NO_CODE = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_PART = r'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|[^\W\d][\w$]*)'
NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
"""The pattern of a name, quoted or not, with its schema or without."""

_NAMES = re.compile(NAME)
_PARTS = re.compile(_PART)
_QUICK = re.compile(r"[\s(;]*(\w*)")

Name = tuple[str, ...]
"""A name in its parts, as the database keeps them: ("public", "shop_item")."""


def first_word(sql: str) -> str:
    """Return the first word of a statement, in lower case; quick, for every statement."""
    found = _QUICK.match(sql)
    return found[1].lower() if found else ""


def code_of(sql: str) -> list[str]:
    """Return the statements of a text, without comments and literals, each on one line.

    The body of a `DO` block is code as well.
    """
    bare = _COMMENT if first_word(sql) == "do" else _NO_CODE
    text = bare.sub(" ", sql)
    if bare is _COMMENT:
        return [" ".join(text.split())]
    return [" ".join(part.split()) for part in text.split(";") if part.strip()]


def names_in(code: str) -> set[Name]:
    """Return every name of a statement, its words included: who knows which are tables?"""
    return {_parts(found[0]) for found in _NAMES.finditer(code)}


def names_behind(word: str, code: str) -> set[Name]:
    """Return the names that follow a word."""
    pattern = re.compile(rf"\b{word}\s+({NAME})", re.IGNORECASE)
    return {_parts(found[1]) for found in pattern.finditer(code)}


def last_part(name: str) -> str:
    """Return a name without its schema, as the database keeps it."""
    return _parts(name)[-1]


def quoted_parts(name: str) -> str:
    """Return a name as forecasts write it, with its schema or without, as SQL."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split(".", 1))


def _parts(name: str) -> Name:
    return tuple(_plain(part) for part in _PARTS.findall(name))


def _plain(part: str) -> str:
    if part[0] in '"`':
        quote = part[0]
        return part[1:-1].replace(quote * 2, quote)
    return part.lower()
