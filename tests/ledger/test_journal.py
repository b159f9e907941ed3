"""Tests that every message of a worker is recorded in order, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections

from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import Action, EventKind, RunState, StepState
from migration_route.ledger import runs, spool
from migration_route.ledger.entries import Draft, write
from migration_route.ledger.hashchain import GENESIS, Line, first_break
from migration_route.ledger.queries import (
    find_run,
    heartbeat_age,
    list_entries,
    list_events,
    list_runs,
)
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.step_evidence import StepError
from migration_route.ledger.verification import verify
from migration_route.models import Run
from tests.factories import a_new_run, a_step_record, vendor, written_by_another

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def run() -> Iterator[RunRecord]:
    """Return a running run of two steps."""
    steps = (a_step_record("0002_a"), a_step_record("0003_b"))
    opened, _ = runs.create_run(a_new_run(steps=steps))
    yield runs.move(opened.id, to=RunState.RUNNING, expected={RunState.QUEUED})
    if folder := spool.spool_dir("default"):
        spool.RunSpool(folder, opened.id).remove()


@pytest.fixture
def _only_sqlite() -> None:
    if vendor() != "sqlite":
        pytest.skip("only SQLite has one writer")


only_sqlite = pytest.mark.usefixtures("_only_sqlite")


@contextmanager
def journal_of(run: RunRecord) -> Iterator[RunLog]:
    """Yield a journal as a supervisor uses it: on its own connection with a short
    timeout."""
    with using_private_connection("default", patience=0.05):
        yield RunLog(find_run(run.id))


def told(run: RunRecord) -> list[tuple[int, str]]:
    """Return number and text of every event."""
    return [(event.number, event.text) for event in list_events(run.id, after=0, limit=500)]


def test_events_come_in_order_with_their_numbers(run):
    """Numbers start at one and increase by one, across several batches."""
    with journal_of(run) as journal:
        for word in "abc":
            journal.event(EventKind.OUTPUT, text=word)
        assert not journal.is_flushed
        assert journal.flush()
        assert journal.is_flushed
        journal.event(EventKind.OUTPUT, text="d")
        assert journal.flush()
    assert told(run) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert find_run(run.id).last_event == 4


def test_each_event_is_chained_to_the_one_before(run):
    """From the genesis on, also across the end of one journal and the start of the next."""
    for word in "ab":
        with journal_of(run) as journal:
            journal.event(EventKind.OUTPUT, text=word, facts={"stream": "stdout"})
            assert journal.flush()
    lines, previous = [], GENESIS
    for event in list_events(run.id, after=0, limit=10):
        lines.append(
            Line(
                sequence=event.number,
                words=event.words(),
                previous=previous,
                digest=event.digest,
            )
        )
        previous = event.digest
    assert first_break(lines) == (2, None)


def test_a_step_goes_from_its_intent_to_its_outcome(run):
    """Both are entries; the outcome covers the events up to it."""
    error = StepError(type="DataError", message="too long", operation=1)
    with journal_of(run) as journal:
        journal.event(EventKind.STEP_STARTED, step=0)
        journal.step(0, StepState.APPLYING)
        assert journal.flush()
        assert find_run(run.id).steps[0].state is StepState.APPLYING
        journal.event(EventKind.ERROR, step=0, text="too long")
        journal.step(0, StepState.FAILED, duration_ms=7, error=error)
        assert journal.flush()
    step = find_run(run.id).steps[0]
    assert (step.state, step.duration_ms, step.error) == (StepState.FAILED, 7, error)
    ended, begun = list_entries(before=None, limit=2)
    assert (begun.action, ended.action) == (Action.STEP_STARTED, Action.STEP_FINISHED)
    assert ended.facts["events"] == 2
    assert ended.facts["error"]["message"] == "too long"
    assert verify().intact


def test_nothing_is_flushed_twice(run):
    """A flush without new events only writes the heartbeat."""
    with journal_of(run) as journal:
        journal.event(EventKind.OUTPUT, text="a")
        journal.flush()
        before = find_run(run.id).heartbeat_at
        assert journal.flush()
    assert told(run) == [(1, "a")]
    assert find_run(run.id).heartbeat_at > before


def test_another_writer_takes_the_next_place_and_the_journal_the_one_behind(run):
    """Entries of the interfaces and of the supervisor are one chain."""
    with journal_of(run) as journal:
        for position in range(2):
            journal.step(position, StepState.APPLYING)
            write(Draft(action=Action.DENIED), patience=5)
            while not journal.flush():
                pass
    found = [entry.action for entry in list_entries(before=None, limit=4)[::-1]]
    assert found == ["denied", "step_started", "denied", "step_started"]
    assert verify().intact


def test_a_lost_answer_doubles_nothing(run):
    """The write was committed, its response was lost: the next flush finds what is
    stored."""
    with journal_of(run) as first, journal_of(run) as second:
        first.event(EventKind.OUTPUT, text="a")
        first.step(0, StepState.APPLYING)
        second._events, second._drafts = list(first._events), list(first._drafts)
        second._last, second._digest, second.steps = first._last, first._digest, first.steps
        assert first.flush()
        second.event(EventKind.OUTPUT, text="b")
        assert not second.flush()
        assert second.flush()
    assert told(run) == [(1, "a"), (2, "b")]
    assert len(list_entries(before=None, limit=10)) == 3
    assert verify().intact


@pytest.mark.parametrize(
    "text",
    ["größer 数据 🚂", "a\x00b", "\x1b[31mred\x1b[0m", "\ufffd", "x" * 10_000, ""],
    ids=["letters", "NUL", "escape", "replacement", "long", "empty"],
)
def test_whatever_is_printed_can_be_kept(run, text):
    """A line of output that a database cannot store must not stop the recording."""
    with journal_of(run) as journal:
        journal.event(EventKind.OUTPUT, text=text, facts={"stream": "stdout", "raw": text})
        journal.step(0, StepState.FAILED, error=StepError(type="Error", message=text))
        assert journal.flush()
    ((number, kept),) = told(run)
    assert number == 1
    assert kept == text or "\x00" in text
    assert verify().intact


def test_a_session_that_is_ended_by_the_server_loses_nothing(run):
    """An administrator ends the session: one flush fails, and the next is complete."""
    if vendor() == "sqlite":
        pytest.skip("SQLite has no server")
    kill, which = "KILL %s", "SELECT CONNECTION_ID()"
    if vendor() == "postgresql":
        kill, which = "SELECT pg_terminate_backend(%s)", "SELECT pg_backend_pid()"
    usual = connections["default"]
    with journal_of(run) as journal:
        journal.event(EventKind.OUTPUT, text="a")
        assert journal.flush()
        with connections["default"].cursor() as cursor:
            cursor.execute(which)
            (number,) = cursor.fetchone()
        with usual.cursor() as cursor:
            cursor.execute(kill, [number])
        journal.event(EventKind.OUTPUT, text="b")
        journal.step(0, StepState.APPLYING)
        answers = [journal.flush() for _ in range(3)]
        assert answers[-1], answers
    assert told(run) == [(1, "a"), (2, "b")]
    assert verify().intact


# --- while a migration locks the SQLite file ------------------------------------------


@only_sqlite
def test_what_the_file_cannot_take_is_left_beside_it_and_read_at_once(run):
    """Progress is shown while the migration runs: events, steps, and the last number."""
    with journal_of(run) as journal:
        journal.event(EventKind.OUTPUT, text="before")
        journal.flush()
        with written_by_another():
            journal.event(EventKind.OUTPUT, text="during")
            journal.step(0, StepState.APPLYING)
            assert not journal.is_durable
            assert not journal.flush()
            assert journal.is_durable
            assert told(run) == [(1, "before"), (2, "during")]
            assert list_events(run.id, after=1, limit=1)[0].text == "during"
            assert list_events(run.id, after=0, limit=1)[0].text == "before"
            shown = find_run(run.id)
            assert (shown.last_event, shown.steps[0].state) == (2, StepState.APPLYING)
            assert list_runs(database=None, before=None, limit=1)[0] == shown


@only_sqlite
def test_it_is_taken_into_the_tables_when_they_are_free(run):
    """Nothing is lost, nothing doubled, and the file is removed."""
    folder = spool.spool_dir("default")
    assert folder is not None
    with journal_of(run) as journal:
        with written_by_another():
            for number in range(3):
                journal.event(EventKind.OUTPUT, text=str(number))
                assert not journal.flush()
            journal.step(0, StepState.APPLYING)
            assert not journal.flush()
            assert not journal.flush()
            assert told(run) == [(1, "0"), (2, "1"), (3, "2")]
        assert journal.flush()
        assert not folder.exists()
    assert told(run) == [(1, "0"), (2, "1"), (3, "2")]
    assert len(list_entries(before=None, limit=10)) == 3
    assert verify().intact


@only_sqlite
def test_the_heart_is_seen_to_beat_beside_a_locked_file(run):
    """A long statement does not look like a dead process."""
    old = "2020-01-01T00:00:00.000000Z"
    Run.objects.filter(pk=run.id).update(heartbeat_at=old)
    assert heartbeat_age(find_run(run.id)).days > 365
    with journal_of(run) as journal, written_by_another():
        journal.flush()
        assert heartbeat_age(find_run(run.id)).total_seconds() < 5


@only_sqlite
def test_the_next_supervisor_takes_up_what_a_dead_one_left(run):
    """Its events are neither lost nor doubled, and the chain continues after them."""
    with written_by_another(), journal_of(run) as dead:
        dead.event(EventKind.OUTPUT, text="a")
        dead.step(0, StepState.APPLYING)
        dead.flush()
    with journal_of(run) as journal:
        assert journal.steps[0].state is StepState.APPLYING
        journal.event(EventKind.OUTPUT, text="b")
        journal.step(0, StepState.FAILED)
        assert journal.flush()
    assert told(run) == [(1, "a"), (2, "b")]
    assert len(list_entries(before=None, limit=10)) == 4
    assert verify().intact


@only_sqlite
def test_what_was_left_is_not_doubled_when_the_next_supervisor_has_to_wait_too(run):
    """The file is still locked for the second one; the third one finds everything once."""
    for _ in range(2):
        with written_by_another(), journal_of(run) as waiting:
            if waiting._last == 0:
                waiting.event(EventKind.OUTPUT, text="a")
                waiting.step(0, StepState.APPLYING)
            assert not waiting.flush()
            assert told(run) == [(1, "a")]
    with journal_of(run) as journal:
        assert any(journal.flush() for _ in range(3))
    assert told(run) == [(1, "a")]
    assert len(list_entries(before=None, limit=10)) == 3
    assert verify().intact


@only_sqlite
def test_a_line_that_a_dead_supervisor_did_not_finish_spoils_nothing(run):
    """It was killed while writing; later lines can be read, and all are imported."""
    folder = spool.spool_dir("default")
    assert folder is not None
    path = folder / f"run-{run.id}.jsonl"
    with written_by_another(), journal_of(run) as dead:
        dead.event(EventKind.OUTPUT, text="a")
        dead.flush()
    with path.open("a") as file:
        file.write('{"event": {"number": 2, "te')
    assert told(run) == [(1, "a")]
    with journal_of(run) as journal:
        with written_by_another():
            journal.event(EventKind.OUTPUT, text="b")
            journal.flush()
            assert told(run) == [(1, "a"), (2, "b")]
        assert journal.flush()
    assert told(run) == [(1, "a"), (2, "b")]


@only_sqlite
def test_a_journal_that_took_in_everything_leaves_no_folder(run):
    """No file beside the database is left."""
    folder = spool.spool_dir("default")
    assert folder is not None
    with journal_of(run) as journal:
        with written_by_another():
            journal.event(EventKind.OUTPUT, text="a")
            journal.flush()
            assert folder.exists()
        journal.flush()
    assert not folder.exists()
