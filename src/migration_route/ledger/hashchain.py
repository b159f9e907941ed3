"""The hash chain of the ledger and its exported lines; free of Django.

The digest of each line covers its own fields and the digest of the line before, so a
changed, missing or added line is detected. An exported line is the canonical JSON of an
entry: all the fields that its digest covers, with its position in the chain.
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
"""The previous digest of the first line of a chain."""


def link(previous: str, words: Mapping[str, Any]) -> str:
    """Return the digest of a line that follows the line with digest `previous`."""
    return digest({"previous": previous, "words": dict(words)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a chain, before verification."""

    sequence: int  # from 1, without gaps
    words: Mapping[str, Any]  # the fields that the digest covers
    previous: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainBreak:
    """The first line at which a chain is broken, and why."""

    sequence: int
    message: str


def first_break(lines: Iterable[Line]) -> tuple[int, ChainBreak | None]:
    """Verify a chain from its first line.

    Returns the number of intact lines, and the first break.
    """
    previous, intact = GENESIS, 0
    for line in lines:
        if line.sequence != intact + 1:
            return intact, ChainBreak(
                sequence=intact + 1,
                message=f"Line {intact + 1} is missing: line {line.sequence} follows line "
                f"{intact}.",
            )
        if line.previous != previous:
            return intact, ChainBreak(
                sequence=line.sequence,
                message=f"Line {line.sequence} does not contain the digest of the line "
                "before it.",
            )
        if line.digest != link(previous, line.words):
            return intact, ChainBreak(
                sequence=line.sequence,
                message=f"Line {line.sequence} was changed: it does not match its digest.",
            )
        previous, intact = line.digest, intact + 1
    return intact, None


_CHAIN_FIELDS = {"sequence": int, "previous": str, "digest": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportVerification:
    entries: int  # intact entries, counted from the first
    last: str  # the digest of the last line read, to compare with another record
    broken: ChainBreak | None


def export_line(line: Line) -> bytes:
    """Return an exported line, with its line feed."""
    words = {**line.words, "sequence": line.sequence}
    words |= {"previous": line.previous, "digest": line.digest}
    return canonical_json(words).encode("ascii") + b"\n"


def parse_export_line(text: bytes, *, number: int) -> Line:
    """Parse the line with this number of an export.

    Raises `InvalidRequest` when the text is not an exported entry.
    """
    try:
        words = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(
            f"Line {number} of the file is not JSON: {error}.",
            hint="If the export was interrupted, run it again.",
        ) from error
    if not isinstance(words, dict) or not all(
        type(words.get(key)) is kind for key, kind in _CHAIN_FIELDS.items()
    ):
        raise InvalidRequest(f"Line {number} of the file is not a ledger entry.")
    chain_fields = {key: words.pop(key) for key in _CHAIN_FIELDS}
    return Line(words=words, **chain_fields)


def verify_export(lines: Iterable[bytes]) -> ExportVerification:
    """Verify an export from its first line.

    Raises `InvalidRequest` when the text is not an export.
    """
    last = GENESIS

    def read() -> Iterator[Line]:
        nonlocal last
        for number, text in zip(count(1), lines, strict=False):
            line = parse_export_line(text, number=number)
            last = line.digest
            yield line

    intact, broken = first_break(read())
    return ExportVerification(entries=intact, last=last, broken=broken)
