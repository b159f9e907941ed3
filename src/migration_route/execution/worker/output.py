"""The output of a migration as it is recorded: lines, masked and bounded.

The worker splits what Python prints and the supervisor what bypasses Python, both with the
same class.
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
"""The recorded maximum of the output of one run."""

_WORD = re.compile(r"\S*")


class OutputBudget:
    """Counts the output of one run against the recorded maximum."""

    def __init__(self) -> None:
        self._lines = self._characters = 0
        self.is_spent = False

    def admits(self, line: str) -> bool:
        """Count a line; return whether it is within the budget."""
        self._lines += 1
        self._characters += len(line)
        if self._lines > MOST_LINES or self._characters > MOST_CHARACTERS:
            self.is_spent = True
        return not self.is_spent


class RedactedLines:
    """Splits text that arrives in pieces into lines, and masks their secrets.

    A line longer than `LONGEST_LINE` is returned in pieces; a secret that spans a cut is
    masked completely. At most one piece and the text read beyond it are buffered, and the
    time is linear in the length of the text. Of a line that overwrites itself with carriage
    returns, such as a progress bar, the last state is kept.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._pem = PemLines()
        self._secret_continues = False  # a secret longer than the text read beyond a cut

    def feed(self, text: str) -> list[str]:
        """Return the lines that this text completes."""
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
        """Return a last line without a newline."""
        rest, self._rest = self._rest, ""
        return self._whole(rest) if rest else []

    def _whole(self, line: str) -> list[str]:
        line = _last_state(line).removesuffix("\r")
        pieces, rest = self._cut(line, leave=LONGEST_LINE)
        if self._secret_continues:
            rest = _WORD.sub("", rest, count=1)
            self._secret_continues = False
        if (rest or not pieces) and not self._pem.hides(rest):
            pieces.append(storable(redactor().text(rest)))
        return pieces

    def _cut(self, line: str, *, leave: int) -> tuple[list[str], str]:
        """Return pieces of a line, and its rest of at most `leave` characters."""
        pieces: list[str] = []
        start, masks = 0, redactor()
        while True:
            if self._secret_continues:
                start = _end_of_word(line, start)
                self._secret_continues = start == len(line)
            if len(line) - start <= leave:
                return pieces, line[start:]
            window = line[start : start + LONGEST_LINE + REACH]
            piece, cut = masks.head(window, LONGEST_LINE)
            if not self._pem.hides(window[:cut]):
                pieces.append(storable(piece))
            self._secret_continues = cut == len(window)
            start += cut


def _end_of_word(line: str, start: int) -> int:
    match = _WORD.match(line, start)
    return match.end() if match else start


def _last_state(line: str) -> str:
    """Return what a line shows after its carriage returns; one at its end is kept."""
    text = line.rstrip("\r")
    return text.rpartition("\r")[2] + line[len(text) :][:1]


class RedactedBytes:
    """`RedactedLines` for the bytes of a pipe, until the budget is exhausted."""

    def __init__(self, budget: OutputBudget) -> None:
        self._budget = budget
        self._lines = RedactedLines()
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines that these bytes complete, the one that exceeds the budget
        last."""
        if not self._budget.is_spent:
            yield from self._admitted(self._lines.feed(self._decode(chunk)))

    def finish(self) -> Iterator[str]:
        """Yield a last line without a newline."""
        if not self._budget.is_spent:
            rest = self._lines.feed(self._decode(b"", True))  # noqa: FBT003 - of the codec
            yield from self._admitted([*rest, *self._lines.finish()])

    def _admitted(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            yield line
            if not self._budget.admits(line):
                return


class LineWriter(io.TextIOBase):
    """A text stream that emits lines, with their secrets masked.

    Separate writers, one for the command and one for `print`, keep their lines apart. Bytes
    go to the descriptor below.
    """

    def __init__(self, emit: Callable[[str], None], below: BinaryIO) -> None:
        super().__init__()
        self._emit = emit
        self._below = below
        self._lines = RedactedLines()

    @property
    def buffer(self) -> BinaryIO:
        return self._below

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def fileno(self) -> int:
        return self._below.fileno()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        """False: no colors, no prompts."""
        return False

    def write(self, text: str) -> int:
        """Emit the lines that this text completes."""
        for line in self._lines.feed(text):
            self._emit(line)
        return len(text)

    def finish(self) -> None:
        """Emit a last line without a newline."""
        for line in self._lines.finish():
            self._emit(line)


class ByteLines:
    """Splits the bytes of a pipe into complete lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that these bytes complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return lines

    def finish(self) -> list[bytes]:
        """Return a last line without a newline."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []
