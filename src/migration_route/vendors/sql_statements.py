"""The words of a statement: names, literals and brackets told apart.

Enough to read a definition from left to right; the grammar is with each vendor.

The statements of a text, and the names in them.

Lexed by the rules of the database, and then read with a few patterns, not parsed: a name
too many only makes the route look at one table more.

Which tables were there before the plan, under whatever name they go by now?
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from migration_route.vendors.sql_lexer import Dialect, Kind, Lexeme, lexemes
from migration_route.vendors.sql_lexer import statements as parted

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


class Tables:
    """Names of tables, as the statements of a plan leave them one by one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._now = {name.lower(): name for name in names}

    def old(self, name: Name | None) -> str | None:
        """Return the name from before the plan, "" for a table that the plan has made,
        None where there is no such table now."""
        return self._now.get(name[-1].lower()) if name else None

    def create(self, name: Name | None) -> None:
        """Note that the plan has made a table."""
        if name:
            self._now[name[-1].lower()] = ""

    def drop(self, name: Name | None) -> None:
        """Note that the plan has dropped a table."""
        if name:
            self._now.pop(name[-1].lower(), None)

    def rename(self, old: Name | None, new: Name | None) -> None:
        """Note that the plan has given a table another name."""
        if old and new and (kept := self.old(old)) is not None:
            self.drop(old)
            self._now[new[-1].lower()] = kept


_CLOSING = {"[": "]"}


@dataclass(frozen=True, slots=True)
class SqlToken:
    """One word of a statement."""

    kind: Kind
    text: str

    @property
    def word(self) -> str:
        """Return a word or a sign in upper case; "" for names in quotes and literals."""
        return self.text.upper() if self.kind in {Kind.WORD, Kind.SIGN} else ""

    @property
    def names(self) -> bool:
        """Tell whether it can be a part of a name."""
        return self.kind in {Kind.WORD, Kind.QUOTED}

    @property
    def plain(self) -> str:
        """Return a part of a name as the database keeps it."""
        return self.text if self.kind is Kind.QUOTED else self.text.lower()

    def __str__(self) -> str:
        if self.kind is Kind.QUOTED:
            return '"' + self.text.replace('"', '""') + '"'
        return self.text


def statements(sql: str, dialect: Dialect) -> list[TokenStream]:
    """Return the statements of a text, each ready to be read; those without words, such
    as comments, are left out."""
    return [TokenStream(map(_token, lexed)) for lexed in parted(lexemes(sql, dialect))]


def _token(lexeme: Lexeme) -> SqlToken:
    kind, text = lexeme
    if kind is Kind.QUOTED:
        closing = _CLOSING.get(text[0], text[0])
        text = text[1:].removesuffix(closing).replace(closing * 2, closing)
    return SqlToken(kind, text)


class TokenStream:
    """A statement, or a part of one, that is read from left to right."""

    def __init__(self, tokens: Iterable[SqlToken]) -> None:
        self.tokens = tuple(tokens)
        self.at = 0

    def __str__(self) -> str:
        return " ".join(map(str, self.tokens))

    @property
    def is_done(self) -> bool:
        """Tell whether nothing is left."""
        return self.at >= len(self.tokens)

    @property
    def rest(self) -> tuple[SqlToken, ...]:
        """Return what is left."""
        return self.tokens[self.at :]

    def sees(self, *words: str) -> bool:
        """Tell whether these words come next."""
        return [token.word for token in self.rest[: len(words)]] == list(words)

    def accept(self, *words: str) -> bool:
        """Go over these words if they come next, all of them or none."""
        if not self.sees(*words):
            return False
        self.at += len(words)
        return True

    def accept_any(self, *words: str) -> bool:
        """Go over as many of these words as come next, in whatever order."""
        start = self.at
        while not self.is_done and self.tokens[self.at].word in words:
            self.at += 1
        return self.at > start

    def skip_to(self, *words: str) -> bool:
        """Go behind the first place, outside of brackets, where these words stand."""
        depth = 0
        for place in range(self.at, len(self.tokens)):
            word = self.tokens[place].word
            if not depth and [t.word for t in self.tokens[place:][: len(words)]] == list(
                words
            ):
                self.at = place + len(words)
                return True
            depth += (word in {"(", "["}) - (word in {")", "]"})
        return False

    def has(self, *words: str) -> bool:
        """Tell whether these words stand ahead, outside of brackets."""
        return TokenStream(self.rest).skip_to(*words)

    def name(self) -> Name | None:
        """Go over a name, with its schema or without."""
        if self.is_done or not self.tokens[self.at].names:
            return None
        parts = [self.tokens[self.at].plain]
        self.at += 1
        while self.sees(".") and self.at + 1 < len(self.tokens):
            if not self.tokens[self.at + 1].names:
                break
            parts.append(self.tokens[self.at + 1].plain)
            self.at += 2
        return tuple(parts)

    def name_behind(self, *words: str) -> Name | None:
        """Return the name behind these words, wherever they stand outside of brackets."""
        ahead = TokenStream(self.rest)
        return ahead.name() if ahead.skip_to(*words) else None

    def names(self) -> list[Name]:
        """Go over names that commas part."""
        found = []
        while name := self.name():
            found.append(name)
            self.accept_any("*")
            if not self.accept(","):
                break
        return found

    def all_names(self) -> set[Name]:
        """Return every name that is left, the words of the statement included."""
        ahead, found = TokenStream(self.rest), set()
        while not ahead.is_done:
            if name := ahead.name():
                found.add(name)
            else:
                ahead.at += 1
        return found

    def group(self) -> TokenStream | None:
        """Go over what stands between brackets, if they come next, and return it."""
        if not self.sees("("):
            return None
        depth = 0
        for place in range(self.at, len(self.tokens)):
            word = self.tokens[place].word
            depth += (word == "(") - (word == ")")
            if not depth:
                inner = self.tokens[self.at + 1 : place]
                self.at = place + 1
                return TokenStream(inner)
        inner = self.rest[1:]
        self.at = len(self.tokens)
        return TokenStream(inner)

    def until(self, *words: str) -> TokenStream:
        """Go up to the first of these words outside of brackets, or to the end, and
        return what lies between; at least one word, if there is one."""
        depth, start = 0, self.at
        while not self.is_done:
            word = self.tokens[self.at].word
            if not depth and self.at > start and word in words:
                break
            depth += (word in {"(", "["}) - (word in {")", "]"})
            self.at += 1
        return TokenStream(self.tokens[start : self.at])

    def parts(self) -> list[TokenStream]:
        """Return what is left, parted at the commas outside of brackets."""
        ahead, found = TokenStream(self.rest), []
        while not ahead.is_done:
            if ahead.accept(","):
                continue
            found.append(ahead.until(","))
        return found
