"""Which statements does PostgreSQL see in a text? Read as its lexer does (manual, 4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<literal>'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<end>;)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ROUTINE = re.compile(r"^create (?:or replace )?(?:function|procedure)\b.*\bbegin atomic\b")
_OPENS = re.compile(r"\b(?:begin atomic|case)\b")
_CLOSES = re.compile(r"\bend\b")


def statements_of(sql: str) -> list[str]:
    """Return the statements of a text in lower case, on one line each, without comments;
    literals, quoted names and bodies between dollars are left out."""
    found: list[str] = []
    for part in _parts(sql):
        # The body of a routine in SQL holds semicolons of its own (CREATE FUNCTION).
        if found and _ROUTINE.match(found[-1]) and _is_open(found[-1]):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def _is_open(code: str) -> bool:
    return len(_OPENS.findall(code)) > len(_CLOSES.findall(code))


def _parts(sql: str) -> Iterator[str]:
    words: list[str] = []
    for kind, text in _tokens(sql):
        if kind == "end":
            yield from _joined(words)
            words = []
        else:
            words.append(text.lower() if kind in {"word", "other"} else " ")
    yield from _joined(words)


def _joined(words: list[str]) -> Iterator[str]:
    code = " ".join("".join(words).split())
    if code:
        yield code


def _tokens(sql: str) -> Iterator[tuple[str, str]]:
    place = 0
    while found := _TOKEN.match(sql, place):
        kind, place = str(found.lastgroup), found.end()
        if kind == "block":
            place = _behind_comment(sql, place)
        elif kind == "dollar":
            closing = sql.find(found[0], place)
            place = len(sql) if closing < 0 else closing + len(found[0])
        yield kind, found[0]


def _behind_comment(sql: str, place: int) -> int:
    """Return where a comment ends that has begun before `place`; they may be nested."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, place)
        if edge is None:
            return len(sql)
        depth += 1 if edge[0] == "/*" else -1
        place = edge.end()
    return place
