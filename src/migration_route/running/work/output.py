"""How does what a migration prints reach the record, in order and whole?"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

LONGEST_LINE = 10_000


class LineWriter(io.TextIOBase):
    """A text stream that hands on whole lines.

    Several writers, one for the command and one for `print`, keep each other's lines
    apart. What writes bytes goes to the descriptor below.
    """

    def __init__(self, emit: Callable[[str], None], below: BinaryIO) -> None:
        super().__init__()
        self._emit = emit
        self._below = below
        self._rest = ""

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
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._hand_on(line)
        if len(self._rest) > LONGEST_LINE:
            self._hand_on(self._rest)
            self._rest = ""
        return len(text)

    def finish(self) -> None:
        """Hand on a last line that was never completed."""
        if self._rest:
            self._hand_on(self._rest)
            self._rest = ""

    def _hand_on(self, line: str) -> None:
        self._emit(line.removesuffix("\r").rpartition("\r")[2][:LONGEST_LINE])


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
