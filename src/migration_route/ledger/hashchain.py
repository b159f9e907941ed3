"""The hash chain of the ledger and its exported lines; free of Django.

The digest of each line covers its own fields and the digest of the line before, so a
changed, missing or added line is detected. An exported line is the canonical JSON of an
entry: all the fields that its digest covers, with its position in the chain.
"""

from __future__ import annotations

import json
import re
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


_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """The last entry of the ledger at some time: an anchor for a later verification."""

    sequence: int
    digest: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> ChainHead:
        """Read the text form, NUMBER:HASH. Raises `InvalidRequest`."""
        found = _HEAD.fullmatch(text.strip())
        if found is None:
            raise InvalidRequest(
                f"{text[:100]!r} is not a head of the ledger.",
                hint="Use NUMBER:HASH: the number of an entry and its digest of 64 "
                "hexadecimal digits, as printed at the end of a run.",
            )
        return cls(sequence=int(found[1]), digest=found[2])

    def find_break(self, digest: str | None, *, last: int) -> ChainBreak | None:
        """Compare the head with a ledger that ends at entry `last`.

        `digest`: of the entry with the number of the head; None: there is no such entry.
        """
        if digest == self.digest:
            return None
        if digest is not None:
            why = f"has the digest {digest}, not {self.digest}: the ledger was rewritten"
        elif self.sequence > last:
            why = f"is missing: the ledger ends at entry {last}, so its end was cut off"
        else:
            why = "is missing"
        return ChainBreak(sequence=self.sequence, message=f"Entry {self.sequence} {why}.")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PartVerification:
    """The result of verifying some lines of a chain."""

    links: int  # lines that contain the digest of the line before, which is there too
    broken: ChainBreak | None


def verify_part(lines: Iterable[Line], head: ChainHead) -> PartVerification:
    """Verify lines of a chain in their order, of which others may be missing, up to a head.

    The link between two lines can only be checked if no line is missing between them.
    """
    before, links = Line(sequence=0, words={}, previous="", digest=GENESIS), 0
    for line in lines:
        is_next = line.sequence == before.sequence + 1
        if line.sequence <= before.sequence or line.sequence > head.sequence:
            why = "is out of sequence"
        elif is_next and line.previous != before.digest:
            why = "does not contain the digest of the line before it"
        elif line.digest != link(line.previous, line.words):
            why = "was changed: it does not match its digest"
        elif line.sequence == head.sequence and line.digest != head.digest:
            why = "is not the head"
        else:
            before, links = line, links + is_next
            continue
        message = f"Line {line.sequence} {why}."
        broken = ChainBreak(sequence=line.sequence, message=message)
        return PartVerification(links=links, broken=broken)
    return PartVerification(links=links, broken=None)


def event_lines(events: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Yield the events of a run as lines of their own chain, from the first."""
    previous = GENESIS
    for event in events:
        words = {**event}
        digest = words.pop("digest")
        yield Line(sequence=event["number"], words=words, previous=previous, digest=digest)
        previous = digest


def event_break(
    run: str,
    recorded: Mapping[int, tuple[int, str]],
    digests: Mapping[int, str],
    intact: int,
    broken: ChainBreak | None,
) -> ChainBreak | None:
    """Compare the events of a run with what its entries record of them.

    `recorded`: the number of an event, the entry that records it and its digest there;
    `digests`: those of the events; `intact` and `broken`: the result of `first_break`.
    """
    for number, (sequence, expected) in recorded.items():
        if number and (number > intact or digests.get(number) != expected):
            return ChainBreak(
                sequence=sequence,
                message=f"The events of run {run} up to number {number} do not match the "
                f"digest in line {sequence}.",
            )
    if broken is None:
        return None
    sequence = max((sequence for sequence, _ in recorded.values()), default=0)
    return ChainBreak(sequence=sequence, message=f"Events of run {run}: {broken.message}")


def recorded_events(facts: Mapping[str, Any], sequence: int) -> dict[int, tuple[int, str]]:
    """Return what an entry records of the events of its run, by the number of the event."""
    number = facts.get("events")
    if not isinstance(number, int):
        return {}
    return {number: (sequence, str(facts.get("events_digest")))}


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


def verify_export(
    lines: Iterable[bytes], *, head: ChainHead | None = None
) -> ExportVerification:
    """Verify an export from its first line, and that it contains the entry `head`.

    Raises `InvalidRequest` when the text is not an export.
    """
    last, found = GENESIS, None

    def read() -> Iterator[Line]:
        nonlocal last, found
        for number, text in zip(count(1), lines, strict=False):
            line = parse_export_line(text, number=number)
            last = line.digest
            if head is not None and line.sequence == head.sequence:
                found = line.digest
            yield line

    intact, broken = first_break(read())
    if broken is None and head is not None:
        broken = head.find_break(found, last=intact)
    return ExportVerification(entries=intact, last=last, broken=broken)
