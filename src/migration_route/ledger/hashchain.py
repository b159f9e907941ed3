"""What is a line of an export, and is a file of them as the ledger was written? No Django.

A line is the canonical JSON of an entry as it is stored: all the words that its digest
covers, with its place in the chain.

What makes a changed, missing or added line show?

Each line's digest covers its own words and the digest of the line before. No Django.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from migration_route.core.canonical_json import canonical_json, digest
from migration_route.core.errors import InvalidRequest

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
class ChainBreak:
    """Where a chain does not hold, and how."""

    sequence: int
    message: str


def first_break(lines: Iterable[Line]) -> tuple[int, ChainBreak | None]:
    """Walk a chain from its first line; return how many held, and where it breaks."""
    previous, held = GENESIS, 0
    for line in lines:
        if line.sequence != held + 1:
            return held, ChainBreak(
                sequence=held + 1,
                message=f"Line {held + 1} is missing: {line.sequence} follows {held}.",
            )
        if line.previous != previous:
            return held, ChainBreak(
                sequence=line.sequence,
                message=f"Line {line.sequence} does not follow the line before it.",
            )
        if line.digest != link(previous, line.words):
            return held, ChainBreak(
                sequence=line.sequence,
                message=f"Line {line.sequence} is not as it was written.",
            )
        previous, held = line.digest, held + 1
    return held, None


_PLACE = {"sequence": int, "previous": str, "digest": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportVerification:
    """What a walk along an export found."""

    entries: int  # how many hold, from the first one
    last: str  # the digest of the last one that was read, to compare with another record
    broken: ChainBreak | None


def written(line: Line) -> bytes:
    """Write a line of an export, with its end."""
    words = {**line.words, "sequence": line.sequence}
    words |= {"previous": line.previous, "digest": line.digest}
    return canonical_json(words).encode("ascii") + b"\n"


def parsed(text: bytes, *, number: int) -> Line:
    """Read the line with this number. Raises `InvalidRequest` when it is none."""
    try:
        words = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(
            f"Line {number} of the file is not JSON: {error}.",
            hint="One that was broken off ends in the middle of a line: export it anew.",
        ) from error
    if not isinstance(words, dict) or not all(
        type(words.get(key)) is kind for key, kind in _PLACE.items()
    ):
        raise InvalidRequest(f"Line {number} of the file is not an entry of a ledger.")
    place = {key: words.pop(key) for key in _PLACE}
    return Line(words=words, **place)


def verify_export(lines: Iterable[bytes]) -> ExportVerification:
    """Walk an export from its first line. Raises `InvalidRequest` when it is none."""
    last = GENESIS

    def read() -> Iterator[Line]:
        nonlocal last
        for number, text in zip(count(1), lines, strict=False):
            line = parsed(text, number=number)
            last = line.digest
            yield line

    held, broken = first_break(read())
    return ExportVerification(entries=held, last=last, broken=broken)
