"""What is a line of an export, and is a file of them as the ledger was written? No Django.

A line is the canonical JSON of an entry as it is stored: all the words that its digest
covers, with its place in the chain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from migration_route.canonical import canonical_json
from migration_route.errors import InvalidRequest
from migration_route.ledger.chain import GENESIS, Break, Line, first_break

_PLACE = {"sequence": int, "previous": str, "digest": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportVerification:
    """What a walk along an export found."""

    entries: int  # how many hold, from the first one
    last: str  # the digest of the last one that was read, to compare with another record
    broken: Break | None


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
