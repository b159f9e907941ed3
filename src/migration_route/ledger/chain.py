"""What makes a changed, missing or added line show?

Each line's digest covers its own words and the digest of the line before. No Django.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from migration_route.canonical import digest

GENESIS = "0" * 64
"""What the first line of a chain names as the digest before it."""


def link(previous: str, words: Mapping[str, Any]) -> str:
    """Return the digest of a line that follows the line with digest `previous`."""
    return digest({"previous": previous, "words": dict(words)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line as it was found."""

    sequence: int  # rises by one, from 1
    words: Mapping[str, Any]  # everything that the digest covers
    previous: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where a chain does not hold, and how."""

    sequence: int
    message: str


def first_break(lines: Iterable[Line]) -> tuple[int, Break | None]:
    """Walk a chain from its first line; return how many held, and where it breaks."""
    previous, held = GENESIS, 0
    for line in lines:
        if line.sequence != held + 1:
            return held, Break(
                sequence=held + 1,
                message=f"Line {held + 1} is missing: {line.sequence} follows {held}.",
            )
        if line.previous != previous:
            return held, Break(
                sequence=line.sequence,
                message=f"Line {line.sequence} does not follow the line before it.",
            )
        if line.digest != link(previous, line.words):
            return held, Break(
                sequence=line.sequence,
                message=f"Line {line.sequence} is not as it was written.",
            )
        previous, held = line.digest, held + 1
    return held, None
