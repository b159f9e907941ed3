"""The output of a migration as it is recorded: lines, redacted and bounded.

The worker cuts what Python prints, the supervisor what bypasses Python, both with the same
class.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from migration_route.core.redaction import redactor, storable
from migration_route.core.secret_patterns import REACH, PemLines

LONGEST_LINE: Final = 10_000
MOST_LINES: Final = 20_000
MOST_CHARACTERS: Final = 2_000_000
"""How much output of one run is recorded."""

_WORD = re.compile(r"\S*")


class OutputBudget:
    """Counts the output of one run against the most that is recorded."""

    def __init__(self) -> None:
        self._lines = self._characters = 0
        self.is_spent = False

    def admits(self, line: str) -> bool:
        """Count a line; tell whether it is still within the budget."""
        self._lines += 1
        self._characters += len(line)
        if self._lines > MOST_LINES or self._characters > MOST_CHARACTERS:
            self.is_spent = True
        return not self.is_spent


class RedactedLines:
    """Cuts text that arrives in any pieces into lines, and masks their secrets.

    A line longer than `LONGEST_LINE` is returned in pieces; a secret that lies on a cut is
    masked whole. No more than one piece, and what is read beyond it, is buffered, and the
    time is linear in the length of the text. Of a line that overwrites itself with carriage
    returns, such as a progress bar, the last state is kept.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._pem = PemLines()
        self._secret_goes_on = False  # one that is longer than what is read beyond a cut

    def feed(self, text: str) -> list[str]:
        """Take text; return the lines that it completes."""
        *lines, rest = (self._rest + text).split("\n")
        found = []
        for line in lines:
            found += self._whole(line)
        if len(rest) > LONGEST_LINE:
            rest = _last_state(rest)
        pieces, rest = self._cut(rest, leave=LONGEST_LINE + REACH)
        self._rest = rest
        return found + pieces

    def finish(self) -> list[str]:
        """Return a last line that was never completed."""
        rest, self._rest = self._rest, ""
        return self._whole(rest) if rest else []

    def _whole(self, line: str) -> list[str]:
        line = _last_state(line).removesuffix("\r")
        pieces, rest = self._cut(line, leave=LONGEST_LINE)
        if self._secret_goes_on:
            rest = _WORD.sub("", rest, count=1)
            self._secret_goes_on = False
        if (rest or not pieces) and not self._pem.hides(rest):
            pieces.append(storable(redactor().text(rest)))
        return pieces

    def _cut(self, line: str, *, leave: int) -> tuple[list[str], str]:
        """Return pieces of a line, and its rest of at most `leave` characters."""
        pieces: list[str] = []
        start, masks = 0, redactor()
        while True:
            if self._secret_goes_on:
                start = _end_of_word(line, start)
                self._secret_goes_on = start == len(line)
            if len(line) - start <= leave:
                return pieces, line[start:]
            window = line[start : start + LONGEST_LINE + REACH]
            piece, cut = masks.head(window, LONGEST_LINE)
            if not self._pem.hides(window[:cut]):
                pieces.append(storable(piece))
            self._secret_goes_on = cut == len(window)
            start += cut


def _end_of_word(line: str, start: int) -> int:
    match = _WORD.match(line, start)
    return match.end() if match else start


def _last_state(line: str) -> str:
    """Return what a line shows after its carriage returns; one at its end is kept."""
    text = line.rstrip("\r")
    return text.rpartition("\r")[2] + line[len(text) :][:1]


class RedactedBytes:
    """`RedactedLines` of the bytes that come through a pipe, until the budget is spent."""

    def __init__(self, budget: OutputBudget) -> None:
        self._budget = budget
        self._lines = RedactedLines()
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Take bytes; return the lines that they complete, the one that exceeds the budget
        last."""
        if not self._budget.is_spent:
            yield from self._admitted(self._lines.feed(self._decode(chunk)))

    def finish(self) -> Iterator[str]:
        """Return a last line that was never completed."""
        if not self._budget.is_spent:
            rest = self._lines.feed(self._decode(b"", True))  # noqa: FBT003 - of the codec
            yield from self._admitted([*rest, *self._lines.finish()])

    def _admitted(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            yield line
            if not self._budget.admits(line):
                return


class LineWriter(io.TextIOBase):
    """A text stream that hands on lines, with their secrets masked.

    Several writers, one for the command and one for `print`, keep each other's lines
    apart. What writes bytes goes to the descriptor below.
    """

    def __init__(self, emit: Callable[[str], None], below: BinaryIO) -> None:
        super().__init__()
        self._emit = emit
        self._below = below
        self._lines = RedactedLines()

    @property
    def buffer(self) -> BinaryIO:
        """Return the stream of bytes below."""
        return self._below

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return how text becomes bytes."""
        return "utf-8"

    def fileno(self) -> int:
        """Return the descriptor below."""
        return self._below.fileno()

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def isatty(self) -> bool:
        """Tell that nobody looks on: no colours, no questions."""
        return False

    def write(self, text: str) -> int:
        """Take text; hand on the lines that it completes."""
        for line in self._lines.feed(text):
            self._emit(line)
        return len(text)

    def finish(self) -> None:
        """Hand on a last line that was never completed."""
        for line in self._lines.finish():
            self._emit(line)


class ByteLines:
    """Whole lines out of the bytes that come through a pipe."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes, return the lines that they complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return lines

    def finish(self) -> list[bytes]:
        """Return a last line that was never completed."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []
