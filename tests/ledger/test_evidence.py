"""Tests that every change to an evidence bundle is found, without a database."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from migration_route.core.canonical_json import canonical_json
from migration_route.core.errors import InvalidRequest
from migration_route.core.signatures import signature
from migration_route.ledger import evidence
from migration_route.ledger.evidence import SignatureState, verify_bundle, write_bundle
from migration_route.ledger.hashchain import GENESIS, ChainHead, Line, export_line, link

RUN, OTHER = "1" * 32, "2" * 32
KEY = "a key of the tests"
FINGERPRINT = "a-b-c"
STEPS = [["shop", "0002_sku", "d" * 64]]
EVENTS = [
    {"number": 1, "at": "1", "kind": "output", "text": "Łódź", "facts": {"ms": 0.1}},
    {"number": 2, "at": "2", "kind": "state", "text": "succeeded", "facts": {}},
]


def events() -> list[dict[str, Any]]:
    """Return the events with their digests."""
    found, previous = [], GENESIS
    for words in EVENTS:
        previous = link(previous, words)
        found.append({**words, "digest": previous})
    return found


def chain() -> list[Line]:
    """Return a ledger of six entries; the third and the last are of another run."""
    end = {"events": 2, "events_digest": events()[-1]["digest"]}
    drafts = [
        (RUN, "run_requested", {"fingerprint": FINGERPRINT, "steps": STEPS}),
        (RUN, "approved", {"fingerprint": FINGERPRINT}),
        (OTHER, "denied", {}),
        (RUN, "run_state", {"from": "queued", "to": "running"}),
        (RUN, "run_state", {"from": "running", "to": "succeeded", **end}),
        (OTHER, "denied", {}),
    ]
    lines, previous = [], GENESIS
    for sequence, (run, action, facts) in enumerate(drafts, start=1):
        words = {
            "run": run,
            "action": action,
            "actor_kind": "user",
            "actor_name": "ada",
            "facts": facts,
        }
        digest = link(previous, words)
        lines.append(Line(sequence=sequence, words=words, previous=previous, digest=digest))
        previous = digest
    return lines


def encoded(lines: list[Line]) -> bytes:
    return b"".join(map(export_line, lines))


def of_run(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.words["run"] == RUN]


def files(**changed: object) -> dict[str, bytes]:
    """Return the files of a bundle, with other values for some of them."""
    steps = [{"app": app, "name": name, "digest": of} for app, name, of in STEPS]
    by = {"kind": "user", "name": "ada"}
    run = {"id": RUN, "fingerprint": FINGERPRINT, "state": "succeeded", "ended": True}
    values = {
        "run": run,
        "plan": {"fingerprint": FINGERPRINT, "steps": steps},
        "approvals": {"decisions": [{"decision": "approve", "by": by}]},
        "rehearsals": [],
        "events": events(),
    }
    unknown = changed.keys() - values.keys() - {"entries"}
    assert not unknown
    found = {
        f"{name}.json": canonical_json(changed.get(name, value)).encode()
        for name, value in values.items()
    }
    lines = changed.get("entries", of_run(chain()))
    return {**found, "ledger.jsonl": encoded(lines)}  # type: ignore[arg-type]


def bundle(found: dict[str, bytes] | None = None, head: Line | None = None) -> bytes:
    last = head or chain()[-1]
    return write_bundle(
        files() if found is None else found,
        build="this build",
        run=RUN,
        created_at="2026-01-01T00:00:00.000000Z",
        head=ChainHead(sequence=last.sequence, digest=last.digest),
        sign=lambda text: signature(text, key=KEY, salt=evidence.SALT),
    )


def members(content: bytes) -> dict[str, bytes]:
    with ZipFile(BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(found: dict[str, bytes], method: int = ZIP_STORED) -> bytes:
    """Return another zip file with these members."""
    buffer = BytesIO()
    with ZipFile(buffer, "w", method) as archive:
        for name, content in found.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_bundle_is_verified():
    """Its entries, the links between those that follow one another, and its events."""
    found = verify_bundle(bundle(), [KEY])
    assert (found.problem, found.signature) == ("", SignatureState.VALID)
    assert (found.entries, found.links, found.events) == (4, 3, 2)
    assert found.state == "succeeded"
    assert found.manifest is not None
    assert (found.manifest.run, found.manifest.build) == (RUN, "this build")
    assert found.manifest.ledger_head == f"6:{chain()[-1].digest}"


def test_the_signature_needs_a_key():
    """Without one it is not checked; one of several is enough."""
    found = verify_bundle(bundle())
    assert (found.problem, found.signature) == ("", SignatureState.NOT_CHECKED)
    found = verify_bundle(bundle(), ["new", KEY])
    assert (found.problem, found.signature) == ("", SignatureState.VALID)
    found = verify_bundle(bundle(), ["another"])
    assert found.signature is SignatureState.INVALID
    assert "SECRET_KEY" in found.problem


def test_any_zip_program_can_read_it():
    found = members(bundle())
    assert list(found) == ["manifest.json", "manifest.sig", *files()]
    assert {name: found[name] for name in files()} == files()


def test_the_bytes_of_a_bundle_are_the_same_everywhere():
    """A bundle that one version of Python wrote is verified by another one."""
    known = "38320ae5c7b1576260c4aa7ddb768a96b630d21f4956dbbb0be163299a84714e"
    assert sha256(bundle()).hexdigest() == known


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["without a key", "with the key"])
def test_a_changed_byte_is_found_wherever_it_is(keys):
    """In each file, in the names, and between them."""
    content = bundle()
    for place in range(len(content)):
        for mask in (0x01, 0x20):
            changed = bytearray(content)
            changed[place] ^= mask
            assert verify_bundle(bytes(changed), keys).problem, (place, mask)


def test_a_cut_file_is_found_wherever_it_was_cut():
    content = bundle()
    for length in range(len(content)):
        assert verify_bundle(content[:length]).problem, length
    assert verify_bundle(content + b"\x00").problem


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", *files()])
def test_a_missing_file_is_named(name):
    found = members(bundle())
    del found[name]
    assert f"no {name}" in verify_bundle(zipped(found)).problem


@pytest.mark.parametrize("name", files())
def test_a_changed_file_is_named(name):
    """Without a key, and however the zip file was written again."""
    found = members(bundle())
    found[name] += b" "
    assert verify_bundle(zipped(found)).problem.startswith(f"{name} was changed")


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "run.json/../evil", "C:\\evil", "more.json", " "]
)
def test_a_file_with_another_name_is_refused_and_never_written(name, tmp_path, monkeypatch):
    """Nothing is unpacked, so no path is ever used."""
    monkeypatch.chdir(tmp_path)
    found = verify_bundle(zipped({name: b"x", **members(bundle())}))
    assert "which is unexpected" in found.problem
    assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.parent.glob("evil")) == []


def test_a_file_that_comes_twice_is_refused():
    content = bundle()
    length = content.index(b"PK\x03\x04", 4)
    assert "unexpected" in verify_bundle(content[:length] + content).problem


def test_a_compressed_file_is_refused_unread():
    """200 MB of zeros are not inflated."""
    bomb = zipped({**members(bundle()), "events.json": b"0" * 200_000_000}, ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    found = verify_bundle(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "packed again" in found.problem
    assert peak < 10_000_000


def test_a_size_that_is_not_there_is_not_allocated():
    content = bytearray(bundle())
    struct.pack_into("<2L", content, 18, 0xFFFFFFF0, 0xFFFFFFF0)
    assert "cut off in manifest.json" in verify_bundle(bytes(content)).problem


def test_a_bundle_that_could_not_be_verified_is_not_written(monkeypatch):
    monkeypatch.setattr(evidence, "LARGEST_BUNDLE", 1000)
    with pytest.raises(InvalidRequest, match="at most 1000"):
        bundle()


# --- written again, with matching digests and signature ---------------------------------


def swapped(lines: list[Line]) -> list[Line]:
    return [lines[0], lines[2], lines[1], lines[3]]


def changed_line(lines: list[Line], place: int, **words: object) -> list[Line]:
    """Return lines, one of which is changed and has the digest of the change."""
    old = lines[place]
    said = {**old.words, **words}
    new = Line(
        sequence=old.sequence,
        words=said,
        previous=old.previous,
        digest=link(old.previous, said),
    )
    return [*lines[:place], new, *lines[place + 1 :]]


ENTRIES: list[tuple[Callable[[list[Line]], list[Line]], str]] = [
    (swapped, "Line 2 is out of sequence"),
    (lambda lines: [*lines, lines[-1]], "Line 5 is out of sequence"),
    (lambda lines: changed_line(lines, 0, actor_name="eve"), "Line 2 does not contain"),
    (lambda lines: changed_line(lines, 1, run=OTHER), "line 2 is not of this run"),
    (lambda lines: lines[1:], "does not start with the request"),
    (lambda lines: [], "does not start with the request"),
    (lambda lines: lines[:-1], "no entry records"),
    (lambda lines: changed_line(lines, 1, action="denied"), "no entry records"),
    (lambda lines: [*chain()[:2], chain()[2], *lines[2:]], "line 3 is not of this run"),
]


@pytest.mark.parametrize(("tamper", "problem"), ENTRIES)
def test_entries_that_are_not_those_of_the_chain_are_found(tamper, problem):
    """Even if the manifest was computed and signed again."""
    found = verify_bundle(bundle(files(entries=tamper(of_run(chain())))), [KEY])
    assert found.signature is SignatureState.VALID
    assert problem in found.problem


@pytest.mark.parametrize("keeps", [0, 1])
def test_an_event_that_is_missing_is_found(keeps):
    """The entries hold the digests of the events."""
    found = verify_bundle(bundle(files(events=events()[keeps : keeps + 1])))
    assert found.problem.startswith("events.json: The events of run")


def test_a_changed_event_is_found():
    changed = events()
    changed[0]["text"] = "other"
    assert verify_bundle(bundle(files(events=changed))).problem.startswith("events.json")


@pytest.mark.parametrize(
    ("name", "path", "value", "problem"),
    [
        ("run", ("state",), "failed", "has the state 'failed'"),
        ("run", ("id",), OTHER, "run.json is not of this run"),
        ("run", ("fingerprint",), "x", "run.json is not of this run"),
        ("plan", ("fingerprint",), "x", "plan.json is not the plan"),
        ("plan", ("steps", 0, "digest"), "x", "plan.json is not the plan"),
        ("plan", ("steps",), [], "plan.json is not the plan"),
        ("approvals", ("decisions", 0, "by", "name"), "eve", "no entry records"),
        ("approvals", ("decisions", 0, "decision"), "reject", "no entry records"),
        ("run", (), [], "not the form of evidence"),
        ("events", (), {"a": 1}, "not the form of evidence"),
        ("approvals", ("decisions",), None, "not the form of evidence"),
    ],
)
def test_a_file_that_contradicts_the_entries_is_found(name, path, value, problem):
    """The rows of a run are not part of the chain; its entries are."""
    found = json.loads(files()[f"{name}.json"])
    if path:
        place = found
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    else:
        found = value
    assert problem in verify_bundle(bundle(files(**{name: found})), [KEY]).problem


def test_a_head_that_the_entries_contradict_is_found():
    """It is later than the entries, or the last of them."""
    lines = chain()
    assert "out of sequence" in verify_bundle(bundle(head=lines[3])).problem
    head = Line(sequence=5, words={}, previous="", digest="f" * 64)
    assert "not the head" in verify_bundle(bundle(head=head)).problem
    assert verify_bundle(bundle(head=lines[4])).problem == ""


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"version": 2}', b"NaN"]
)
def test_what_is_no_manifest_is_refused(text):
    found = verify_bundle(zipped({**members(bundle()), "manifest.json": text}), [KEY])
    assert found.problem == "manifest.json cannot be read: it was changed."


def test_a_later_format_is_named():
    """The reader learns that another version is needed."""
    found = members(bundle())
    manifest = {**json.loads(found["manifest.json"]), "version": 2}
    found["manifest.json"] = canonical_json(manifest).encode()
    assert "reads 'migration-route evidence', version 1" in (
        verify_bundle(zipped(found)).problem
    )


@pytest.mark.parametrize("name", ["events.json", "ledger.jsonl", "run.json"])
@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"{", b"1e999", b"null"])
def test_a_file_that_is_not_json_is_refused(name, content):
    assert verify_bundle(bundle({**files(), name: content}), [KEY]).problem
