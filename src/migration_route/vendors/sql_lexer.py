"""The lexer of each database: the boundaries of its literals, names and comments.

All SQL is read by these rules, which are those of the servers (PostgreSQL: manual, 4.1, and
scan.l; MySQL: manual, 9.1, 9.6, 9.7; SQLite: tokenize.c). Whitespace is that of ASCII, and
every character above ASCII belongs to a name: Python's own character classes differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import lru_cache
from itertools import product
from typing import NamedTuple

_MOST_READINGS = 64


@unique
class LexemeKind(StrEnum):
    SPACE = "space"
    COMMENT = "comment"
    LITERAL = "literal"
    QUOTED = "quoted"  # a quoted name
    WORD = "word"
    NUMBER = "number"
    SIGN = "sign"


@unique
class CommentReading(StrEnum):
    """How a server reads a comment that some servers execute, /*! … */ or /*M! … */."""

    CODE = "code"  # executed: the server's version is high enough
    NESTED = "nested"  # skipped: one comment may be nested inside
    PLAIN = "plain"  # skipped: the server does not know the mark


class Lexeme(NamedTuple):  # cheap: a text of megabytes has many of them
    """A piece of a text, unchanged."""

    kind: LexemeKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The lexical rules of a server in one of its modes."""

    vendor: str  # Django's name
    backslashes: bool  # escape in ordinary literals
    ansi_quotes: bool = True  # double quotes enclose names


POSTGRESQL = Dialect(vendor="postgresql", backslashes=False)
OLD_POSTGRESQL = Dialect(vendor="postgresql", backslashes=True)
"""With `standard_conforming_strings` off."""

MYSQL = Dialect(vendor="mysql", backslashes=True, ansi_quotes=False)
MYSQL_MODES = tuple(
    Dialect(vendor="mysql", backslashes=backslashes, ansi_quotes=ansi_quotes)
    for backslashes in (True, False)
    for ansi_quotes in (False, True)
)
"""With and without NO_BACKSLASH_ESCAPES and ANSI_QUOTES."""

SQLITE = Dialect(vendor="sqlite", backslashes=False)
_USUAL = {dialect.vendor: dialect for dialect in (POSTGRESQL, MYSQL, SQLITE)}


class TooManyReadings(Exception):
    """A text has too many possible readings."""


def dialect_of(vendor: str) -> Dialect:
    """Return the default dialect of a vendor."""
    return _USUAL[vendor]


def lexemes(
    sql: str, dialect: Dialect, comments: tuple[CommentReading, ...] = ()
) -> Iterator[Lexeme]:
    """Yield the lexemes of a text. One that is not closed extends to the end.

    `comments` says how each executable comment is read, in order; the remaining ones are
    code.
    """
    return _Lexer(sql, dialect, comments).lexemes()


def readings(sql: str, dialect: Dialect) -> Iterator[list[Lexeme]]:
    """Yield every way in which servers of this kind can read a text: executable comments
    depend on their version. Raises `TooManyReadings` if there are too many."""
    marks = _executable_marks(sql) if dialect.vendor == "mysql" else 0
    if len(CommentReading) ** marks > _MOST_READINGS:
        raise TooManyReadings
    for comments in product(CommentReading, repeat=marks):
        yield list(lexemes(sql, dialect, comments))


def split_statements(pieces: Iterable[Lexeme]) -> list[list[Lexeme]]:
    """Split lexemes at the semicolons between statements."""
    found: list[list[Lexeme]] = [[]]
    for lexeme in pieces:
        if lexeme.text == ";" and lexeme.kind is LexemeKind.SIGN:
            found.append([])
        else:
            found[-1].append(lexeme)
    return found


def _executable_marks(sql: str) -> int:
    return len(re.findall(r"/\*M?!", sql))


class _Lexer:
    """Reads one text from left to right."""

    def __init__(
        self, sql: str, dialect: Dialect, comments: tuple[CommentReading, ...]
    ) -> None:
        self._sql = sql
        self._dialect = dialect
        self._comments = iter(comments)
        self._is_executing = False  # inside an executable comment
        self._at = 0

    def lexemes(self) -> Iterator[Lexeme]:
        match = _pattern(self._dialect).match
        while found := match(self._sql, self._at):
            kind, start = str(found.lastgroup), self._at
            self._at = found.end()
            if kind == "block":
                kind = self._read_comment(found[0])
            elif kind == "dollar":
                closing = self._sql.find(found[0], self._at)
                end = closing + len(found[0])
                self._at = len(self._sql) if closing < 0 else end
                kind = "literal"
            elif kind == "close":
                kind = self._close()
            yield Lexeme(LexemeKind(kind), self._sql[start : self._at])

    def _read_comment(self, opening: str) -> str:
        """Skip a comment, or enter one that is executed."""
        if "!" not in opening:
            self._skip_comment(depth=-1 if self._dialect.vendor == "postgresql" else 0)
            return "comment"
        match next(self._comments, CommentReading.CODE):
            case CommentReading.CODE:
                self._is_executing = True
                return "space"
            case CommentReading.NESTED:
                self._skip_comment(depth=1)
            case CommentReading.PLAIN:
                self._skip_comment(depth=0)
        return "comment"

    def _skip_comment(self, *, depth: int) -> None:
        """Skip to the end of a comment that may contain others down to this depth; -1: any
        depth."""
        open_comments = 1
        while open_comments:
            edge = _EDGE.search(self._sql, self._at)
            if edge is None:
                self._at = len(self._sql)
                return
            self._at = edge.end()
            if edge[0] == "*/":
                open_comments -= 1
            elif depth < 0 or open_comments <= depth:
                open_comments += 1
            else:
                self._at = edge.start() + 1  # "/*/" closes as well

    def _close(self) -> str:
        """Leave an executable comment, or read a sign that only looks like its end."""
        if self._is_executing:
            self._is_executing = False
            return "space"
        self._at -= 1
        return "sign"


_EDGE = re.compile(r"/\*|\*/")
_SPACES = r"[ \t\n\r\f\v]"
_NAME_START = r"[A-Za-z_\x80-\U0010ffff]"
_NAME_PART = r"[A-Za-z0-9_$\x80-\U0010ffff]"
# A literal continues after a line break (scan.l, quotecontinue).
_CONTINUED = r"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r])*+"


def _literal(quote: str, *, backslashes: bool, continued: bool = False) -> str:
    """Return the pattern of a literal between these quotes, closed or not."""
    plain = rf"[^{quote}\\]++|\\." if backslashes else rf"[^{quote}]++"
    inner = rf"{plain}|{quote}{quote}"
    one = rf"{quote}(?:{inner})*+(?:{quote}|\\?\Z)"
    return rf"{one}(?:{_CONTINUED}{one})*" if continued else one


@lru_cache
def _pattern(dialect: Dialect) -> re.Pattern[str]:
    match dialect.vendor:
        case "postgresql":
            parts = _postgresql(dialect)
        case "mysql":
            parts = _mysql(dialect)
        case _:
            parts = _sqlite()
    return re.compile("|".join(parts), re.DOTALL)


def _postgresql(dialect: Dialect) -> tuple[str, ...]:
    escaped = _literal("'", backslashes=True, continued=True)
    plain = _literal("'", backslashes=dialect.backslashes, continued=True)
    raw = _literal("'", backslashes=False, continued=True)
    return (
        rf"(?P<space>{_SPACES}+)",
        r"(?P<comment>--[^\n\r]*)",
        r"(?P<block>/\*)",
        rf"(?P<literal>[eE]{escaped}|[bBxX]{raw}|[nN]?{plain})",
        r"(?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)",
        rf"(?P<quoted>{_literal(chr(34), backslashes=False)})",
        rf"(?P<word>{_NAME_START}{_NAME_PART}*)",
        r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)",
        r"(?P<sign>::|.)",
    )


def _mysql(dialect: Dialect) -> tuple[str, ...]:
    single = _literal("'", backslashes=dialect.backslashes)
    double = _literal('"', backslashes=dialect.backslashes and not dialect.ansi_quotes)
    names, literals = _literal("`", backslashes=False), rf"[bBxXnN]?{single}"
    if dialect.ansi_quotes:
        names = f"{names}|{double}"
    else:
        literals = f"{literals}|{double}"
    return (
        rf"(?P<space>{_SPACES}+)",
        r"(?P<comment>\#[^\n]*|--(?=[\x00-\x20\x7f]|\Z)[^\n]*)",
        r"(?P<block>/\*(?:M?!(?:\d{5,6})?)?)",
        r"(?P<close>\*/)",
        rf"(?P<literal>{literals})",
        rf"(?P<quoted>{names})",
        r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![A-Za-z0-9_$\x80-\U0010ffff]))",
        rf"(?P<word>{_NAME_PART}+)",
        r"(?P<sign>.)",
    )


def _sqlite() -> tuple[str, ...]:
    quotes = (_literal(quote, backslashes=False) for quote in ('"', "`"))
    return (
        rf"(?P<space>{_SPACES}+)",
        r"(?P<comment>--[^\n]*)",
        r"(?P<block>/\*)",
        rf"(?P<literal>[xX]?{_literal(chr(39), backslashes=False)})",
        rf"(?P<quoted>{'|'.join(quotes)}|\[[^\]]*(?:\]|\Z))",
        rf"(?P<word>{_NAME_START}{_NAME_PART}*)",
        r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)",
        r"(?P<sign>.)",
    )
