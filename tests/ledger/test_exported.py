"""Tests that an exported file alone is enough to verify the ledger."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from migration_route.core.errors import InvalidRequest
from migration_route.ledger.hashchain import (
    GENESIS,
    ChainHead,
    Line,
    export_line,
    link,
    verify_export,
)


def an_export(count: int = 3) -> list[bytes]:
    """Return the lines of a chain of that many entries."""
    lines, previous = [], GENESIS
    for sequence in range(1, count + 1):
        words = {
            "uid": str(sequence),
            "actor_name": "Łukasz",
            "facts": {"ms": 0.1, "n": 2**70},
        }
        line = Line(
            sequence=sequence, words=words, previous=previous, digest=link(previous, words)
        )
        lines.append(export_line(line))
        previous = line.digest
    return lines


def changed(line: bytes, **words: object) -> bytes:
    """Return the line with changed fields."""
    return json.dumps({**json.loads(line), **words}).encode()


def test_a_whole_export_holds():
    """The digest of its last line is returned, for comparison with another record."""
    lines = an_export()
    found = verify_export(lines)
    assert (found.entries, found.broken) == (3, None)
    assert found.last == json.loads(lines[-1])["digest"]
    assert verify_export([]).last == GENESIS


def test_the_lines_of_the_documents_verify_it_too(tmp_path, monkeypatch):
    """Verbatim: they accept an export, and detect a change."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "verify-the-ledger-offline.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    file = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-W", "ignore", "-c", code]
    for lines, is_sound in (
        (an_export(), True),
        ([*an_export(1), *an_export(3)[2:]], False),
        ([changed(an_export(1)[0], actor_name="eve") + b"\n"], False),
    ):
        file.write_bytes(b"".join(lines))
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode == 0) is is_sound, done.stderr


def test_another_way_of_writing_json_is_no_change():
    """Only the values of a line count."""
    assert verify_export([changed(line) for line in an_export()]).broken is None


@pytest.mark.parametrize(
    ("tamper", "place"),
    [
        (lambda lines: [lines[0], changed(lines[1], actor_name="eve"), lines[2]], 2),
        (lambda lines: [lines[0], changed(lines[1], more=1), lines[2]], 2),
        (lambda lines: [lines[0], lines[2]], 2),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
    ],
)
def test_a_change_is_found_with_its_place(tamper, place):
    """Changed, added, missing, repeated and exchanged lines."""
    found = verify_export(tamper(an_export()))
    assert found.broken is not None
    assert (found.entries, found.broken.sequence) == (place - 1, place)


def test_an_export_that_ends_before_a_head_is_found_to_be_cut():
    """Its own lines are intact."""
    lines = an_export()
    head = ChainHead(sequence=3, digest=json.loads(lines[2])["digest"])
    assert verify_export(lines, head=head).broken is None
    found = verify_export(lines[:2], head=head)
    assert found.broken is not None
    assert (found.entries, found.broken.sequence) == (2, 3)
    assert "ends at entry 2" in found.broken.message
    other = ChainHead(sequence=2, digest=head.digest)
    broken = verify_export(lines, head=other).broken
    assert broken is not None
    assert "rewritten" in broken.message


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'"x"', b"{}", b"\xff", b'{"sequence": true, "digest": ""}']
)
def test_what_is_no_export_is_told_with_its_line(text):
    """A truncated file is not accepted as complete."""
    with pytest.raises(InvalidRequest, match="Line 2 of the file"):
        verify_export([an_export()[0], text])
