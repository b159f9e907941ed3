"""Tests of the progress that migrations and databases report."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

import migration_route
from migration_route.access.actors import shell_actor
from migration_route.core.enums import EventKind, RunState
from migration_route.core.progress import Throttle, listening, progress_words
from migration_route.execution.messages import GateReply, Message
from migration_route.execution.worker.reporter import Reporter
from migration_route.ledger import queries
from migration_route.ledger.records import EventRecord
from migration_route.planning.plan import PlanRequest
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.plans import plain_plan
from tests.factories import vendor


@pytest.fixture
def clock(monkeypatch):
    """Set the time by hand."""
    now = [1000.0]
    monkeypatch.setattr("migration_route.core.progress.time.monotonic", lambda: now[0])
    return now


def test_outside_of_a_run_a_report_does_nothing():
    """A migration that reports progress runs everywhere."""
    migration_route.progress(1, 2)
    migration_route.progress(1)


def test_reports_reach_the_listener_of_their_block():
    """As whole numbers that are not negative."""
    found = []
    with listening(lambda done, total: found.append((done, total))):
        migration_route.progress(3, 10)
        migration_route.progress(True)
        migration_route.progress(-1, -1)
    migration_route.progress(4, 10)
    assert found == [(3, 10), (1, None), (0, 0)]


def test_what_is_no_number_is_an_error():
    """In a run; the migration fails where it is written."""
    with listening(lambda done, total: None), pytest.raises((TypeError, ValueError)):
        migration_route.progress("many")  # type: ignore[arg-type]


def test_reports_pass_once_a_second_and_less_often_later(clock):
    """A long migration does not fill the ledger."""
    throttle = Throttle()
    passed = []
    for _ in range(4 * 3600):
        if throttle.is_due():
            passed.append(clock[0])
        clock[0] += 0.25
    assert passed[:3] == [1000.0, 1001.0, 1002.0]
    assert len(passed) < 300  # of 3,600 seconds
    assert passed[-1] - passed[-2] > 60


def test_the_next_operation_starts_anew(clock):
    """Its first report passes at once."""
    throttle = Throttle()
    assert throttle.is_due()
    assert not throttle.is_due()
    throttle.restart()
    assert throttle.is_due()


def sent_reports(reports):
    """Return what a reporter sends of these reports within one instant."""
    read, write = os.pipe()
    reporter = Reporter(write, "default", lambda: GateReply(go=True))
    for done, total in reports:
        reporter.progress(done, total)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        sent = [msgspec.json.decode(line, type=Message) for line in pipe]
    return [(message.count, message.facts["total"]) for message in sent]


def test_the_report_that_all_is_done_always_passes(clock):
    """Nobody wonders whether the rest was done."""
    reports = [(done, 100) for done in range(1, 101)]
    assert sent_reports(reports) == [(1, 100), (100, 100)]


@pytest.mark.parametrize("total", [0, 1, 50])
def test_a_total_that_is_too_small_does_not_let_every_report_pass(clock, total):
    """Rows may be added while a migration runs; its reports stay few."""
    found = sent_reports([(done, total) for done in range(1, 5001)])
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("done", "total", "unit", "words"),
    [
        (0, None, "", "0"),
        (1200, None, "rows", "1,200 rows"),
        (1200, 6000, "rows", "1,200 of 6,000 rows (20 %)"),
        (7, 6, "", "7 of 6 (100 %)"),
        (0, 0, "", "0"),
    ],
)
def test_progress_in_words(done, total, unit, words):
    assert progress_words(done, total, unit) == words


@pytest.fixture
def applied(history, project, settings):
    """Apply what is pending, and return the events about progress."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()

    def applied() -> list[EventRecord]:
        plan = plain_plan(PlanRequest())
        run = apply(ApplyRequest(fingerprint=plan.fingerprint), shell_actor())
        found = queries.find_run(run.id)
        assert found.state is RunState.SUCCEEDED, found.error
        return queries.list_events(run.id, after=0, limit=500, kinds=(EventKind.PROGRESS,))

    return applied


def test_a_data_migration_reports_how_far_it_is(history, applied):
    """The run has the first and the last report, with the position of the operation."""
    history.python(
        "0001_fill",
        "import migration_route\n"
        "for number in range(1, 501):\n"
        "    migration_route.progress(number, 500)",
    )
    events = applied()
    assert (events[0].facts["done"], events[-1].facts["done"]) == (1, 500)
    assert len(events) < 10
    assert {event.facts["total"] for event in events} == {500}
    assert (events[-1].step, events[-1].operation) == (0, 0)
    assert events[-1].text == "500 of 500 (100 %)"


_SLOW_INDEX = """
CREATE TABLE slow AS SELECT number FROM generate_series(1, 300) AS number;
CREATE FUNCTION slowly(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN PERFORM pg_sleep(0.01); RETURN $1; END';
"""


@pytest.mark.skipif(vendor() != "postgresql", reason="only PostgreSQL reports it")
def test_the_build_of_an_index_is_shown_while_it_runs(history, applied):
    """A statement of three seconds, on a function that sleeps."""
    history.write("0001_table", f"migrations.RunSQL({json.dumps(_SLOW_INDEX)}, '')")
    history.write(
        "0002_index",
        "migrations.RunSQL('CREATE INDEX slow_index ON slow (slowly(number))', '')",
    )
    events = applied()
    assert events
    assert {event.facts["unit"] for event in events} <= {"blocks", "rows"}
    assert all(event.facts["phase"].startswith("building index") for event in events)
    assert {event.step for event in events} == {1}
