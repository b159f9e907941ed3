"""The evidence bundle of a run: the format of its file, and its verification; free of
Django.

A bundle is a zip file of canonical JSON, stored without compression and always in the same
order. So the files determine every byte of the bundle: a byte that was changed anywhere is
found, and nothing has to be unpacked to read it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from io import BytesIO
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from migration_route.core.canonical_json import JsonValue, canonical_json
from migration_route.core.enums import Action
from migration_route.core.errors import InvalidRequest
from migration_route.core.signatures import Key, is_signed
from migration_route.ledger.hashchain import (
    ChainHead,
    Line,
    event_break,
    event_lines,
    first_break,
    parse_export_line,
    recorded_events,
    verify_part,
)

FORMAT = "migration-route evidence"
VERSION = 1
SALT = "migration_route.evidence"
LARGEST_BUNDLE = 128 * 1024 * 1024
"""Bytes of a bundle. The records of a run are bounded, and take far less."""

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
RUN, PLAN, APPROVALS = "run.json", "plan.json", "approvals.json"
REHEARSALS, EVENTS, ENTRIES = "rehearsals.json", "events.json", "ledger.jsonl"
FILES = (RUN, PLAN, APPROVALS, REHEARSALS, EVENTS, ENTRIES)
"""The files whose digests the manifest contains."""

_NAMES = (MANIFEST, SIGNATURE, *FILES)
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # PKWARE's APPNOTE.TXT, 4.3.7
_ZIP = b"PK\x03\x04"


def file_name(run: str) -> str:
    return f"evidence-{run}.zip"


class SignatureState(StrEnum):
    """What is known of the signature of a manifest."""

    VALID = "valid"
    INVALID = "invalid"
    NOT_CHECKED = "not_checked"  # without a key


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(JsonValue):
    """What a bundle contains."""

    format: str = FORMAT
    version: int = VERSION
    build: str  # the code that wrote the bundle
    run: str
    created_at: str
    ledger_head: str  # when the bundle was written, as NUMBER:HASH
    files: dict[str, str]  # SHA-256 by name


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceVerification:
    """The result of verifying a bundle; a number is 0 unless it is intact."""

    problem: str  # "": it is intact
    signature: SignatureState = SignatureState.NOT_CHECKED
    manifest: Manifest | None = None  # None: it could not be read
    state: str = ""  # of the run
    entries: int = 0
    links: int = 0  # between entries of the bundle, or to the start of the ledger
    events: int = 0


class _NotIntact(Exception):
    """What is wrong with a bundle."""


def write_bundle(
    files: Mapping[str, bytes],
    *,
    build: str,
    run: str,
    created_at: str,
    head: ChainHead,
    sign: Callable[[str], str],
) -> bytes:
    """Return a bundle of these files, with their manifest and its signature.

    Raises `InvalidRequest` if it is too large to be verified.
    """
    manifest = Manifest(
        build=build,
        run=run,
        created_at=created_at,
        ledger_head=str(head),
        files={name: sha256(files[name]).hexdigest() for name in FILES},
    )
    text = canonical_json(manifest.to_dict())
    own = {MANIFEST: text.encode(), SIGNATURE: sign(text).encode()}
    content = _archive({**own, **files})
    if len(content) > LARGEST_BUNDLE:
        raise InvalidRequest(
            f"The evidence of run {run} has {len(content)} bytes; at most {LARGEST_BUNDLE} "
            "are supported.",
            hint="Export the whole ledger with 'ledger export' instead.",
        )
    return content


def _archive(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file whose bytes depend on the files alone."""
    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        for name in _NAMES:
            member = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16  # Unix
            archive.writestr(member, files[name])
    return buffer.getvalue()


def is_bundle(start: bytes) -> bool:
    """Whether a file with this start is a zip file, which an export never is."""
    return start.startswith(_ZIP[:2])


def verify_bundle(content: bytes, keys: Iterable[Key] = ()) -> EvidenceVerification:
    """Verify the bytes of a bundle.

    Its signature is only checked with keys: those of `SECRET_KEY`, now and before.
    """
    keys, manifest, signature = tuple(keys), None, SignatureState.NOT_CHECKED
    try:
        files = _read_archive(content)
        manifest = _manifest(files[MANIFEST])
        if keys:
            signature = _signature_state(files, keys)
        _check_digests(files, manifest)
        _require_valid(signature)
        _require_same(_archive(files), content)
        return _verify_files(files, manifest, signature)
    except _NotIntact as error:
        return EvidenceVerification(
            problem=str(error), manifest=manifest, signature=signature
        )


def _require_valid(signature: SignatureState) -> None:
    if signature is SignatureState.INVALID:
        raise _NotIntact(
            "The signature of the manifest does not match: the bundle was changed, or "
            "signed with another SECRET_KEY."
        )


def _require_same(written: bytes, content: bytes) -> None:
    if written != content:
        raise _NotIntact("The zip file was changed outside of its files.")


def _read_archive(content: bytes) -> dict[str, bytes]:
    """Return the files of a bundle by name; names that a bundle does not have, and
    compressed files, are refused unread."""
    files: dict[str, bytes] = {}
    at = 0
    while content[at : at + len(_ZIP)] == _ZIP:
        if at + _LOCAL_HEADER.size > len(content):
            raise _NotIntact("The zip file is cut off.")
        _, _, flags, method, *_, packed, size, of_name, of_extra = (
            _LOCAL_HEADER.unpack_from(content, at)
        )
        start = at + _LOCAL_HEADER.size
        name = content[start : start + of_name].decode("ascii", "backslashreplace")
        if name not in _NAMES or name in files:
            raise _NotIntact(f"The zip file contains {name[:100]!r}, which is unexpected.")
        if flags or method != ZIP_STORED or packed != size or of_extra:
            raise _NotIntact(
                f"{name} is not stored as it was written: the file was packed again or "
                "changed."
            )
        start += of_name
        at = start + size
        if at > len(content):
            raise _NotIntact(f"The zip file is cut off in {name}.")
        files[name] = content[start:at]
    missing = [name for name in _NAMES if name not in files]
    if missing:
        raise _NotIntact(f"The zip file has no {missing[0]}: it was cut off or changed.")
    return files


def _manifest(content: bytes) -> Manifest:
    try:
        manifest = Manifest.from_dict(json.loads(content))
        ChainHead.parse(manifest.ledger_head)
    except (ValueError, RecursionError, InvalidRequest) as error:
        raise _NotIntact(f"{MANIFEST} cannot be read: it was changed.") from error
    if manifest.format != FORMAT or manifest.version != VERSION:
        raise _NotIntact(
            f"The bundle has the format {manifest.format!r}, version {manifest.version}; "
            f"this version of django-migration-route reads {FORMAT!r}, version {VERSION}."
        )
    if canonical_json(manifest.to_dict()).encode() != content:
        raise _NotIntact(f"{MANIFEST} is not as it was written.")
    return manifest


def _signature_state(files: Mapping[str, bytes], keys: Iterable[Key]) -> SignatureState:
    text = files[MANIFEST].decode("ascii")
    found = files[SIGNATURE].decode("ascii", "replace")
    is_valid = is_signed(text, found, keys=keys, salt=SALT)
    return SignatureState.VALID if is_valid else SignatureState.INVALID


def _check_digests(files: Mapping[str, bytes], manifest: Manifest) -> None:
    if manifest.files.keys() != set(FILES):
        raise _NotIntact(f"{MANIFEST} does not list the files of a bundle.")
    for name in FILES:
        if sha256(files[name]).hexdigest() != manifest.files[name]:
            raise _NotIntact(f"{name} was changed: it does not match {MANIFEST}.")


def _verify_files(
    files: Mapping[str, bytes], manifest: Manifest, signature: SignatureState
) -> EvidenceVerification:
    """Verify the chain, and that the other files agree with its entries."""
    try:
        lines = [
            parse_export_line(text, number=number)
            for number, text in enumerate(files[ENTRIES].splitlines(), start=1)
        ]
        links = _verify_entries(lines, manifest)
        events = json.loads(files[EVENTS])
        _verify_events(events, lines, manifest.run)
        run, plan, approvals = (json.loads(files[name]) for name in (RUN, PLAN, APPROVALS))
        _compare(lines, manifest.run, run, plan, approvals)
    except InvalidRequest as error:
        raise _NotIntact(f"{ENTRIES}: {error.message}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _NotIntact("A file of the bundle has not the form of evidence.") from error
    return EvidenceVerification(
        problem="",
        signature=signature,
        manifest=manifest,
        state=run["state"],
        entries=len(lines),
        links=links,
        events=len(events),
    )


def _verify_entries(lines: list[Line], manifest: Manifest) -> int:
    """Verify the entries of the run; return the number of links that were checked."""
    part = verify_part(lines, ChainHead.parse(manifest.ledger_head))
    if part.broken is not None:
        raise _NotIntact(f"{ENTRIES}: {part.broken.message}")
    for line in lines:
        if line.words["run"] != manifest.run:
            raise _NotIntact(f"{ENTRIES}: line {line.sequence} is not of this run.")
    if not lines or lines[0].words["action"] != Action.RUN_REQUESTED:
        raise _NotIntact(f"{ENTRIES} does not start with the request of the run.")
    return part.links


def _verify_events(events: list[dict[str, Any]], lines: list[Line], run: str) -> None:
    recorded: dict[int, tuple[int, str]] = {}
    for line in lines:
        recorded |= recorded_events(line.words["facts"], line.sequence)
    intact, broken = first_break(event_lines(events))
    digests = {event["number"]: event["digest"] for event in events}
    found = event_break(run, recorded, digests, intact, broken)
    if found is not None:
        raise _NotIntact(f"{EVENTS}: {found.message}")


def _compare(
    lines: list[Line],
    run_id: str,
    run: dict[str, Any],
    plan: dict[str, Any],
    approvals: dict[str, Any],
) -> None:
    """Compare the row of the run, its plan and its approvals with its entries.

    These rows are not part of the chain, so only their entries prove them.
    """
    requested = lines[0].words["facts"]
    steps = [[step["app"], step["name"], step["digest"]] for step in plan["steps"]]
    planned = (plan["fingerprint"], steps)
    if planned != (requested["fingerprint"], requested["steps"]):
        raise _NotIntact(f"{PLAN} is not the plan that the first entry names.")
    if (run["id"], run["fingerprint"]) != (run_id, plan["fingerprint"]):
        raise _NotIntact(f"{RUN} is not of this run.")
    states = [line.words["facts"].get("to") for line in lines]
    last = [state for state in states if state]
    if run["ended"] and last[-1:] != [run["state"]]:
        raise _NotIntact(f"{RUN} has the state {run['state']!r}, which no entry records.")
    entries = {
        (line.words["action"], line.words["actor_kind"], line.words["actor_name"])
        for line in lines
    }
    for one in approvals["decisions"]:
        action = Action.APPROVED if one["decision"] == "approve" else Action.REJECTED
        if (action, one["by"]["kind"], one["by"]["name"]) not in entries:
            raise _NotIntact(f"{APPROVALS} has a decision that no entry records.")
