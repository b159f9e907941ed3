"""The statements that PostgreSQL finds in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migration_route.vendors.lexer import POSTGRESQL, Dialect, Kind, lexemes

_CODE = frozenset({Kind.WORD, Kind.NUMBER, Kind.SIGN})
_ROUTINE = re.compile(r"^create (?:or replace )?(?:function|procedure)\b.*\bbegin atomic\b")
_OPENS = re.compile(r"\b(?:begin atomic|case)\b")
_CLOSES = re.compile(r"\bend\b")


def statements_of(sql: str, dialect: Dialect = POSTGRESQL) -> list[str]:
    """Return the statements of a text in lower case, on one line each, without comments;
    literals, quoted names and bodies between dollars are left out."""
    found: list[str] = []
    for part in _parts(sql, dialect):
        # The body of a routine in SQL holds semicolons of its own (CREATE FUNCTION).
        if found and _ROUTINE.match(found[-1]) and _is_open(found[-1]):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def _is_open(code: str) -> bool:
    return len(_OPENS.findall(code)) > len(_CLOSES.findall(code))


def _parts(sql: str, dialect: Dialect) -> Iterator[str]:
    words: list[str] = []
    for kind, text in lexemes(sql, dialect):
        if kind is Kind.SIGN and text == ";":
            yield from _joined(words)
            words = []
        else:
            words.append(text.lower() if kind in _CODE else " ")
    yield from _joined(words)


def _joined(words: list[str]) -> Iterator[str]:
    code = " ".join("".join(words).split())
    if code:
        yield code
