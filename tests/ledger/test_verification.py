"""Tests that every change to the ledger is detected."""

from __future__ import annotations

import pytest
from django.db import connection

from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import Action, EventKind, RunState, StepState
from migration_route.core.errors import InvalidRequest
from migration_route.ledger import runs, verification
from migration_route.ledger.entries import Draft, write
from migration_route.ledger.hashchain import ChainHead
from migration_route.ledger.queries import find_run
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.verification import verify
from migration_route.models import Entry, Event
from tests.factories import a_new_run

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def run() -> str:
    """Record a whole run: request, step, events, end."""
    opened, _ = runs.create_run(a_new_run())
    runs.move(opened.id, to=RunState.RUNNING, expected={RunState.QUEUED})
    with using_private_connection("default"):
        journal = RunLog(find_run(opened.id))
        journal.event(EventKind.STEP_STARTED, step=0, text="testapp.0002_more")
        journal.step(0, StepState.APPLYING)
        assert journal.flush()
        journal.event(EventKind.OUTPUT, step=0, text="hello", facts={"stream": "stdout"})
        journal.event(EventKind.STEP_FINISHED, step=0, duration_ms=5)
        journal.step(0, StepState.APPLIED, duration_ms=5)
        journal.event(EventKind.STATE, text="succeeded", facts={"outcome": "applied"})
        assert journal.flush()
    runs.move(opened.id, to=RunState.SUCCEEDED, expected={RunState.RUNNING})
    return opened.id


def test_a_ledger_that_nobody_touched_is_intact(run):
    """Five entries are valid: request, running, step started, step finished, succeeded."""
    found = verify()
    assert (found.intact, found.entries, found.broken) == (True, 5, None)


def test_an_empty_ledger_is_intact():
    assert (verify().intact, verify().entries) == (True, 0)


def test_no_ledger_is_intact(empty_database):
    """Where nothing was ever written, a read creates no tables and finds no error."""
    assert (verify().intact, verify().entries) == (True, 0)


CHANGES = [
    {"actor_name": "somebody else"},
    {"at": "2020-01-01T00:00:00.000000Z"},
    {"action": "resolved"},
    {"action": "no such word"},
    {"actor_kind": "no such kind"},
    {"address": "203.0.113.9"},
    {"database": "other"},
    {"run": "f" * 32},
    {"build": "another"},
    {"uid": "f" * 32},
    {"facts": "{}"},
    {"facts": "not JSON"},
    {"facts": "[1]"},
    {"previous": "1" * 64},
    {"digest": "1" * 64},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("sequence", [1, 4, 5])
def test_a_changed_entry_is_found(run, changes, sequence):
    """For any column and any entry: the first invalid one is named."""
    assert Entry.objects.filter(sequence=sequence).update(**changes) == 1
    found = verify()
    assert not found.intact
    assert found.broken is not None
    assert found.broken.sequence == sequence
    assert found.entries == sequence - 1


@pytest.mark.parametrize("sequence", [1, 2, 4])
def test_a_removed_entry_is_found(run, sequence):
    """The chain breaks at the gap."""
    Entry.objects.filter(sequence=sequence).delete()
    found = verify()
    assert found.broken is not None
    assert found.broken.sequence == sequence


def test_an_entry_that_was_removed_with_the_others_counted_again_is_found(run):
    """Numbers can be adjusted, digests cannot."""
    Entry.objects.filter(sequence=2).delete()
    for sequence in (3, 4, 5):
        Entry.objects.filter(sequence=sequence).update(sequence=sequence - 1)
    found = verify()
    assert found.broken is not None
    assert found.broken.sequence == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "goodbye"},
        {"at": "2020-01-01T00:00:00.000000Z"},
        {"kind": "error"},
        {"kind": "no such word"},
        {"step": 7},
        {"duration_ms": 7},
        {"facts": '{"stream": "stderr"}'},
        {"facts": "not JSON"},
        {"digest": "1" * 64},
        {"number": 77},
    ],
    ids=str,
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_changed_event_is_found(run, changes, number):
    """The entry that ends a step covers its events."""
    assert Event.objects.filter(run=run, number=number).update(**changes) == 1
    found = verify()
    assert not found.intact
    assert found.broken is not None


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_removed_event_is_found(run, number):
    """A missing event contradicts the entry that ends its step."""
    Event.objects.filter(run=run, number=number).delete()
    assert not verify().intact


def test_a_changed_event_behind_the_last_step_is_found(run):
    """Events after the last step cannot be rewritten either."""
    assert Event.objects.filter(run=run, number=4).update(text="failed") == 1
    assert not verify().intact


def test_verifying_needs_no_memory_of_the_whole(run, django_assert_max_num_queries):
    """A few queries, however long the ledger is."""
    with django_assert_max_num_queries(10, connection=connection):
        assert verify().intact


@pytest.mark.parametrize("size", [1, 2, 5])
def test_it_is_read_whole_in_batches(run, size, monkeypatch):
    """No entry is skipped at the boundary of two batches."""
    monkeypatch.setattr(verification, "_BATCH", size)
    assert (verify().intact, verify().entries) == (True, 5)
    Entry.objects.filter(sequence=5).update(actor_name="somebody else")
    broken = verify().broken
    assert broken is not None
    assert broken.sequence == 5


def head_of(sequence: int) -> ChainHead:
    digest = Entry.objects.get(sequence=sequence).digest
    return ChainHead(sequence=sequence, digest=digest)


def test_the_head_is_the_last_entry(run):
    """Of an intact ledger only; an empty one has none."""
    assert verify().head == head_of(5) == verification.chain_head()
    Entry.objects.filter(sequence=5).update(actor_name="somebody else")
    assert verify().head is None
    Entry.objects.all().delete()
    assert verify().head is None
    assert verification.chain_head() is None


@pytest.mark.parametrize("sequence", [1, 3, 5])
def test_a_ledger_contains_its_earlier_heads(run, sequence):
    found = verify(head_of(sequence))
    assert (found.intact, found.entries) == (True, 5)


@pytest.mark.parametrize("last", [0, 1, 2])
def test_an_end_that_was_cut_off_is_found_with_a_head(run, last):
    """The rest of the chain is intact, so it shows nothing on its own."""
    head = head_of(5)
    Entry.objects.filter(sequence__gt=last).delete()
    Event.objects.filter(run=run).delete()
    assert verify().intact
    broken = verify(head).broken
    assert broken is not None
    assert broken.sequence == 5
    assert broken.message == (
        f"Entry 5 is missing: the ledger ends at entry {last}, so its end was cut off."
    )


def test_a_ledger_that_was_rewritten_is_found_with_a_head(run):
    """Its digests match one another, but not the head."""
    head = head_of(5)
    Entry.objects.filter(sequence=5).delete()
    write(Draft(action=Action.DENIED), patience=1)
    assert verify().intact
    broken = verify(head).broken
    assert broken is not None
    assert broken.message.startswith("Entry 5 has the digest")
    assert head.digest in broken.message


def test_a_head_where_there_is_no_ledger_is_missing(empty_database):
    broken = verify(ChainHead(sequence=7, digest="a" * 64)).broken
    assert broken is not None
    assert "ends at entry 0" in broken.message


@pytest.mark.parametrize(
    "text", ["", "5", f"0:{'a' * 64}", f"5:{'a' * 63}", f"5:{'A' * 64}", f"-1:{'a' * 64}"]
)
def test_what_is_no_head_is_refused(text):
    """The error shows the form."""
    with pytest.raises(InvalidRequest, match="NUMBER:HASH"):
        ChainHead.parse(text)


def test_a_head_is_read_as_it_is_printed():
    head = ChainHead(sequence=12, digest="a" * 64)
    assert ChainHead.parse(f" {head}\n") == head
