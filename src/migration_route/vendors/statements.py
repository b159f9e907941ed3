"""The statements of a text, and the names in them.

Lexed by the rules of the database, and then read with a few patterns, not parsed: a name
too many only makes the route look at one table more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from migration_route.vendors.lexer import Dialect, Kind, Lexeme, lexemes

_NO_CODE = frozenset({Kind.SPACE, Kind.COMMENT, Kind.LITERAL})
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A statement of a text."""

    code: str  # on one line, without comments and literals
    literals: tuple[str, ...]
    names: tuple[Lexeme, ...]  # what it consists of, without spaces, comments, literals


def parts_of(pieces: Iterable[Lexeme], dialect: Dialect) -> list[Part]:
    """Return the statements of a text that has been lexed; those without code are left out.

    The body of a `DO` block is code as well.
    """
    found = []
    for lexed in _parted(pieces):
        words = [one for one in lexed if one.kind not in _NO_CODE]
        if not words:
            continue
        is_block = dialect.vendor == "postgresql" and words[0].text.lower() == "do"
        code = _code(lexed, dialect if is_block else None)
        literals = tuple(one.text for one in lexed if one.kind is Kind.LITERAL)
        found.append(Part(code=code, literals=literals, names=tuple(words)))
    return found


def code_of(sql: str, dialect: Dialect) -> list[str]:
    """Return the statements of a text, without comments and literals, each on one line.

    The body of a `DO` block is code as well.
    """
    return [part.code for part in parts_of(lexemes(sql, dialect), dialect)]


def _parted(pieces: Iterable[Lexeme]) -> list[list[Lexeme]]:
    found: list[list[Lexeme]] = [[]]
    for lexeme in pieces:
        if lexeme.text == ";" and lexeme.kind is Kind.SIGN:
            found.append([])
        else:
            found[-1].append(lexeme)
    return found


def _code(lexed: Iterable[Lexeme], bodies: Dialect | None) -> str:
    """Return code on one line; with a dialect, bodies between dollars are code too."""
    words: list[str] = []
    for kind, text in lexed:
        if kind is Kind.LITERAL and bodies is not None and text.startswith("$"):
            mark = text[: text.index("$", 1) + 1]
            inner = text[len(mark) :].removesuffix(mark)
            words.append(f" {mark} {_code(lexemes(inner, bodies), None)} {mark} ")
        elif kind in _NO_CODE:
            words.append(" ")
        elif kind is Kind.QUOTED:
            words.append(text.replace("\n", " "))
        else:
            words.append(text)
    return re.sub(r" {2,}", " ", "".join(words)).strip()


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
