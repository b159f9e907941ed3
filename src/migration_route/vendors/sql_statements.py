"""Splits a text into statements, and reads names and tokens from them.

A text is lexed by the rules of its database and then read with a few patterns, not parsed:
a name too many only means that one more table is checked. Each vendor has its own grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from migration_route.vendors.sql_lexer import (
    Dialect,
    Lexeme,
    LexemeKind,
    lexemes,
    split_statements,
)

_NO_TOKEN = frozenset({LexemeKind.SPACE, LexemeKind.COMMENT})
_NO_CODE = _NO_TOKEN | {LexemeKind.LITERAL}
_PART = r'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|[^\W\d][\w$]*)'
NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
"""The pattern of a name, quoted or not, with or without its schema."""

_NAMES = re.compile(NAME)
_PARTS = re.compile(_PART)
TRANSACTION_WORDS = frozenset({"begin", "start", "commit", "rollback"})
"""The first words of statements that start or end a transaction."""

_READING = frozenset({"select", "show", "explain", "pragma", "savepoint", "release", "set"})
_QUICK = re.compile(r"[\s(;]*(\w*)")

Name = tuple[str, ...]
"""The parts of a name, as the database stores them: ("public", "shop_item")."""


def first_word(sql: str) -> str:
    """Return the first word of a statement in lower case; fast, for every statement."""
    found = _QUICK.match(sql)
    return found[1].lower() if found else ""


def only_reads(sql: str) -> bool:
    """Return whether a statement changes nothing, by its first word."""
    return first_word(sql) in _READING


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlStatement:
    code: str  # on one line, without comments and literals
    literals: tuple[str, ...]
    names: tuple[Lexeme, ...]  # its lexemes, without spaces, comments and literals


def parts_of(pieces: Iterable[Lexeme], dialect: Dialect) -> list[SqlStatement]:
    """Return the statements of a text that has been lexed, without those that have no code.

    The body of a `DO` block is code too.
    """
    found = []
    for lexed in split_statements(pieces):
        words = [one for one in lexed if one.kind not in _NO_CODE]
        if not words:
            continue
        is_block = dialect.vendor == "postgresql" and words[0].text.lower() == "do"
        code = _code(lexed, dialect if is_block else None)
        literals = tuple(one.text for one in lexed if one.kind is LexemeKind.LITERAL)
        found.append(SqlStatement(code=code, literals=literals, names=tuple(words)))
    return found


def code_of(sql: str, dialect: Dialect) -> list[str]:
    """Return the statements of a text, each on one line, without comments and literals.

    The body of a `DO` block is code too.
    """
    return [part.code for part in parts_of(lexemes(sql, dialect), dialect)]


def _code(lexed: Iterable[Lexeme], bodies: Dialect | None) -> str:
    """Return code on one line; with a dialect, dollar-quoted bodies are code too."""
    words: list[str] = []
    for kind, text in lexed:
        if kind is LexemeKind.LITERAL and bodies is not None and text.startswith("$"):
            tag = text[: text.index("$", 1) + 1]
            inner = text[len(tag) :].removesuffix(tag)
            words.append(f" {tag} {_code(lexemes(inner, bodies), None)} {tag} ")
        elif kind in _NO_CODE:
            words.append(" ")
        elif kind is LexemeKind.QUOTED:
            words.append(text.replace("\n", " "))
        else:
            words.append(text)
    return re.sub(r" {2,}", " ", "".join(words)).strip()


def names_in(code: str) -> set[Name]:
    """Return every name in a statement, keywords included: which ones are tables is
    unknown."""
    return {_parts(found[0]) for found in _NAMES.finditer(code)}


def names_after(word: str, code: str) -> set[Name]:
    pattern = re.compile(rf"\b{word}\s+({NAME})", re.IGNORECASE)
    return {_parts(found[1]) for found in pattern.finditer(code)}


def last_part(name: str) -> str:
    """Return a name without its schema, as the database stores it."""
    return _parts(name)[-1]


def quoted(*parts: str) -> str:
    """Return a name as SQL, each part in double quotes."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def quoted_parts(name: str) -> str:
    """Return a name from a forecast, with or without its schema, as SQL."""
    return quoted(*name.split(".", 1))


def _parts(name: str) -> Name:
    return tuple(_plain(part) for part in _PARTS.findall(name))


def _plain(part: str) -> str:
    if part[0] in '"`':
        quote = part[0]
        return part[1:-1].replace(quote * 2, quote)
    return part.lower()


class TableNames:
    """Maps the current names of tables to those before the plan, statement by statement."""

    def __init__(self, names: Iterable[str]) -> None:
        self._now = {name.lower(): name for name in names}

    def old(self, name: Name | None) -> str | None:
        """Return the name before the plan; "" for a table that the plan created, None if no
        such table exists now."""
        return self._now.get(name[-1].lower()) if name else None

    def create(self, name: Name | None) -> None:
        if name:
            self._now[name[-1].lower()] = ""

    def drop(self, name: Name | None) -> None:
        if name:
            self._now.pop(name[-1].lower(), None)

    def rename(self, old: Name | None, new: Name | None) -> None:
        if old and new and (kept := self.old(old)) is not None:
            self.drop(old)
            self._now[new[-1].lower()] = kept


_CLOSING = {"[": "]"}


@dataclass(frozen=True, slots=True)
class SqlToken:
    kind: LexemeKind
    text: str

    @property
    def word(self) -> str:
        """A word or sign in upper case; "" for quoted names and literals."""
        return self.text.upper() if self.kind in {LexemeKind.WORD, LexemeKind.SIGN} else ""

    @property
    def names(self) -> bool:
        """Whether this can be a part of a name."""
        return self.kind in {LexemeKind.WORD, LexemeKind.QUOTED}

    @property
    def plain(self) -> str:
        """A part of a name, as the database stores it."""
        return self.text if self.kind is LexemeKind.QUOTED else self.text.lower()

    def __str__(self) -> str:
        return quoted(self.text) if self.kind is LexemeKind.QUOTED else self.text


def statements(sql: str, dialect: Dialect) -> list[TokenStream]:
    """Return the statements of a text, ready to be read, without those that have no words,
    such as comments."""
    found = (
        [_token(lexeme) for lexeme in lexed if lexeme.kind not in _NO_TOKEN]
        for lexed in split_statements(lexemes(sql, dialect))
    )
    return [TokenStream(tokens) for tokens in found if tokens]


def _token(lexeme: Lexeme) -> SqlToken:
    kind, text = lexeme
    if kind is LexemeKind.QUOTED:
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
        return self.at >= len(self.tokens)

    @property
    def rest(self) -> tuple[SqlToken, ...]:
        return self.tokens[self.at :]

    def sees(self, *words: str) -> bool:
        return [token.word for token in self.rest[: len(words)]] == list(words)

    def accept(self, *words: str) -> bool:
        """Skip these words if they come next, all or none of them."""
        if not self.sees(*words):
            return False
        self.at += len(words)
        return True

    def accept_any(self, *words: str) -> bool:
        """Skip as many of these words as come next, in any order."""
        start = self.at
        while not self.is_done and self.tokens[self.at].word in words:
            self.at += 1
        return self.at > start

    def skip_to(self, *words: str) -> bool:
        """Skip past the first occurrence of these words outside brackets."""
        depth = 0
        for position in range(self.at, len(self.tokens)):
            word = self.tokens[position].word
            if not depth and [t.word for t in self.tokens[position:][: len(words)]] == list(
                words
            ):
                self.at = position + len(words)
                return True
            depth += (word in {"(", "["}) - (word in {")", "]"})
        return False

    def has(self, *words: str) -> bool:
        """Return whether these words occur ahead, outside brackets."""
        return TokenStream(self.rest).skip_to(*words)

    def name(self) -> Name | None:
        """Read a name, with or without its schema."""
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

    def label(self) -> str:
        """Read a name, and return its last part; "" if there is none."""
        name = self.name()
        return name[-1] if name else ""

    def name_after(self, *words: str) -> Name | None:
        """Return the name after these words, wherever they occur ahead outside brackets."""
        ahead = TokenStream(self.rest)
        return ahead.name() if ahead.skip_to(*words) else None

    def names(self) -> list[Name]:
        """Read names separated by commas."""
        found = []
        while name := self.name():
            found.append(name)
            self.accept_any("*")
            if not self.accept(","):
                break
        return found

    def all_names(self) -> set[Name]:
        """Return every remaining name, the words of the statement included."""
        ahead, found = TokenStream(self.rest), set()
        while not ahead.is_done:
            if name := ahead.name():
                found.add(name)
            else:
                ahead.at += 1
        return found

    def group(self) -> TokenStream | None:
        """Read and return the content of the brackets that come next; None if there are
        none."""
        if not self.sees("("):
            return None
        depth = 0
        for position in range(self.at, len(self.tokens)):
            word = self.tokens[position].word
            depth += (word == "(") - (word == ")")
            if not depth:
                inner = self.tokens[self.at + 1 : position]
                self.at = position + 1
                return TokenStream(inner)
        inner = self.rest[1:]
        self.at = len(self.tokens)
        return TokenStream(inner)

    def until(self, *words: str) -> TokenStream:
        """Read up to the first of these words outside brackets, or to the end; at least one
        word if there is one."""
        depth, start = 0, self.at
        while not self.is_done:
            word = self.tokens[self.at].word
            if not depth and self.at > start and word in words:
                break
            depth += (word in {"(", "["}) - (word in {")", "]"})
            self.at += 1
        return TokenStream(self.tokens[start : self.at])

    def parts(self) -> list[TokenStream]:
        """Return the rest, split at the commas outside brackets."""
        ahead, found = TokenStream(self.rest), []
        while not ahead.is_done:
            if ahead.accept(","):
                continue
            found.append(ahead.until(","))
        return found
