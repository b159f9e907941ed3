"""The words of a statement: names, literals and brackets told apart.

Enough to read a definition from left to right; the grammar is with each vendor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from migration_route.vendors.lexer import Dialect, Kind, Lexeme, lexemes
from migration_route.vendors.lexer import statements as parted
from migration_route.vendors.statements import Name

_CLOSING = {"[": "]"}


@dataclass(frozen=True, slots=True)
class Token:
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


def statements(sql: str, dialect: Dialect) -> list[Reading]:
    """Return the statements of a text, each ready to be read; those without words, such
    as comments, are left out."""
    return [Reading(map(_token, lexed)) for lexed in parted(lexemes(sql, dialect))]


def _token(lexeme: Lexeme) -> Token:
    kind, text = lexeme
    if kind is Kind.QUOTED:
        closing = _CLOSING.get(text[0], text[0])
        text = text[1:].removesuffix(closing).replace(closing * 2, closing)
    return Token(kind, text)


class Reading:
    """A statement, or a part of one, that is read from left to right."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self.tokens = tuple(tokens)
        self.at = 0

    def __str__(self) -> str:
        return " ".join(map(str, self.tokens))

    @property
    def is_done(self) -> bool:
        """Tell whether nothing is left."""
        return self.at >= len(self.tokens)

    @property
    def rest(self) -> tuple[Token, ...]:
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
        return Reading(self.rest).skip_to(*words)

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
        ahead = Reading(self.rest)
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
        ahead, found = Reading(self.rest), set()
        while not ahead.is_done:
            if name := ahead.name():
                found.add(name)
            else:
                ahead.at += 1
        return found

    def group(self) -> Reading | None:
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
                return Reading(inner)
        inner = self.rest[1:]
        self.at = len(self.tokens)
        return Reading(inner)

    def until(self, *words: str) -> Reading:
        """Go up to the first of these words outside of brackets, or to the end, and
        return what lies between; at least one word, if there is one."""
        depth, start = 0, self.at
        while not self.is_done:
            word = self.tokens[self.at].word
            if not depth and self.at > start and word in words:
                break
            depth += (word in {"(", "["}) - (word in {")", "]"})
            self.at += 1
        return Reading(self.tokens[start : self.at])

    def parts(self) -> list[Reading]:
        """Return what is left, parted at the commas outside of brackets."""
        ahead, found = Reading(self.rest), []
        while not ahead.is_done:
            if ahead.accept(","):
                continue
            found.append(ahead.until(","))
        return found
