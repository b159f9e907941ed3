"""Tests of the durations of the same step, and of the estimates that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core import clock
from migration_route.core.enums import (
    Action,
    ActorKind,
    CopyKind,
    Direction,
    Mode,
    RehearsalState,
    RunState,
    StepState,
)
from migration_route.ledger import rehearsals, runs
from migration_route.ledger.durations import StepDuration, StepKey, previous_durations
from migration_route.ledger.entries import Draft, write
from migration_route.ledger.records import StepRecord
from migration_route.ledger.rehearsals import NewRehearsal, ObservedStep, Report
from migration_route.ledger.verification import export_batch
from migration_route.planning.impact import rows_of_steps
from migration_route.planning.plan import PlanRequest
from migration_route.presentation.serializers import plan_answer, run_answer
from migration_route.presentation.text.plans import estimate_line, expected_line
from migration_route.presentation.text.runs import plan_lines
from migration_route.services.estimates import estimate_of
from migration_route.services.plans import detailed_plan
from tests.factories import a_new_run, a_step_record, create_model, vendor
from tests.testapp.models import Book

DONE = a_step_record("0001_a", state=StepState.APPLIED, duration_ms=42)


def key_of(step: StepRecord) -> StepKey:
    """Return the key that identifies a step."""
    return step.app, step.name, step.direction, step.digest


def on_record(step: StepRecord, **changes: Any) -> str:
    """Record an ended run of this step; return its id."""
    run, _ = runs.create_run(a_new_run(steps=(step,), **changes))
    return runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}).id


def test_the_newest_run_tells_wherever_it_was(database):
    """On another database as well, and even if a later step of that run has failed."""
    on_record(a_step_record("0001_a", state=StepState.APPLIED, duration_ms=9))
    run = on_record(DONE, database="other")
    ((took, earlier),) = previous_durations([key_of(DONE)]).values()
    assert isinstance(took, StepDuration)
    assert earlier.ms == 9
    assert (took.ms, took.run, took.database) == (42, run, "other")
    assert took.at


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "another source"},
        {"direction": Direction.BACKWARDS},
        {"state": StepState.FAILED},
        {"duration_ms": None},
        {"done_operations": 1},
    ],
)
def test_what_is_not_the_same_tells_nothing(database, changes):
    """Nor does a step that did not complete, or was resumed midway."""
    facts = {"state": StepState.APPLIED, "duration_ms": 42, **changes}
    on_record(a_step_record("0001_a", **facts))
    assert previous_durations([key_of(DONE)]) == {}


def test_what_was_only_recorded_tells_nothing(database):
    """It took no time."""
    on_record(DONE, mode=Mode.FAKE)
    assert previous_durations([key_of(DONE)]) == {}


def test_a_plan_says_how_long_its_steps_took(history):
    """Steps are matched by the digest of their source."""
    history.table("0001_a", "shelf")
    (step,) = detailed_plan(PlanRequest()).steps
    assert step.estimate is None
    run = on_record(
        a_step_record(
            "0001_a", digest=step.digest, state=StepState.APPLIED, duration_ms=1234
        )
    )
    plan = detailed_plan(PlanRequest())
    (told,) = plan_answer(plan).steps
    assert told.estimate is not None
    assert (told.estimate.ms, told.estimate.run) == (1234, run)


def rehearse(kind: CopyKind, ms: int, rows: int | None = None) -> str:
    """Record a rehearsal that executed the step of `DONE`; return its id."""
    record = rehearsals.create_rehearsal(
        NewRehearsal(
            database="other",
            kind=kind,
            round_trip=False,
            direction=Direction.FORWARDS,
            targets=(),
            fingerprint="a-b-c",
            steps=((DONE.app, DONE.name, DONE.digest),),
            actor_kind=ActorKind.USER,
            actor_name="ada",
            reason="",
            build="b1",
            address="",
        )
    )
    step = ObservedStep(
        app=DONE.app,
        name=DONE.name,
        direction=DONE.direction,
        state=StepState.APPLIED,
        duration_ms=ms,
        rows=rows,
    )
    rehearsals.move(
        record.id,
        to=RehearsalState.SUCCEEDED,
        expected={RehearsalState.QUEUED},
        report=Report(steps=(step,)),
    )
    return record.id


def test_a_rehearsal_with_data_tells(database):
    """A copy of the schema alone has no rows, and takes no time."""
    rehearse(CopyKind.SCHEMA, 1)
    assert previous_durations([key_of(DONE)]) == {}
    rehearsal = rehearse(CopyKind.DATA, 900, rows=70)
    ((took,),) = previous_durations([key_of(DONE)]).values()
    assert (took.ms, took.rehearsal, took.run, took.rows) == (900, rehearsal, "", 70)
    line = estimate_line(estimate_of([took], None))
    assert line.startswith("took 900 ms in a rehearsal on other at 70 rows, ")


def a_duration(ms: int, rows: int | None, at: str = "2026-11-29") -> StepDuration:
    return StepDuration(ms=ms, database="other", at=at, run="r", rows=rows)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (12_000_000, 120_000),  # a table ten times the size
        (1_200_000, 12_000),
        (1_200, 12_000),  # never below what was observed
        (None, 12_000),
    ],
)
def test_an_estimate_is_linear_in_the_rows(rows, expected):
    found = estimate_of([a_duration(12_000, 1_200_000)], rows)
    assert (found.ms, found.observed_ms, found.observed_rows) == (
        expected,
        12_000,
        1_200_000,
    )


def test_the_nearest_number_of_rows_counts_and_of_those_the_latest():
    small, old, new = a_duration(5, 10), a_duration(900, 10_000), a_duration(700, 11_000)
    assert estimate_of([small, new, old], 22_000).ms == 1400
    assert estimate_of([new, small, old], 10).ms == 5
    assert estimate_of([replace(new, rows=None), old], None).ms == 700


def test_the_text_of_a_scaled_estimate_names_its_origin():
    duration = replace(a_duration(12_000, 1_200_000), environment="staging")
    assert estimate_line(estimate_of([duration], 2_400_000)) == (
        "expected 24.0 s, took 12.0 s on other of staging at 1.2 M rows, 2026-11-29"
    )


@pytest.fixture
def fifty_books(database: None) -> Iterator[None]:
    """Fill the table of the model, and let the server count its rows."""
    Book.objects.bulk_create(Book(title=str(number)) for number in range(50))
    analyze = {"postgresql": "ANALYZE testapp_book", "mysql": "ANALYZE TABLE testapp_book"}
    if vendor() in analyze:
        with connections["default"].cursor() as cursor:
            cursor.execute(analyze[vendor()])
    yield
    Book.objects.all().delete()


def test_a_plan_scales_by_the_rows_of_the_table(history, fifty_books):
    """The earlier run was on a database with a tenth of the rows. One step is unknown."""
    history.write("0001_a", create_model("Book", "('title', models.TextField())"))
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_a")
    field = "migrations.AddField('book', 'extra', models.IntegerField(null=True))"
    history.write("0002_b", field)
    history.table("0003_c", "shelf_c")
    first, _ = detailed_plan(PlanRequest()).steps
    assert rows_of_steps("default", [(first.app, first.name)]) == {
        ("testapp", "0002_b"): 50
    }
    before = replace(DONE, app=first.app, name=first.name, digest=first.digest, rows=5)
    on_record(before, database="other")
    answer = plan_answer(detailed_plan(PlanRequest()))
    estimate = answer.steps[0].estimate
    assert estimate is not None
    assert (estimate.observed_ms, estimate.observed_rows) == (42, 5)
    assert (estimate.ms, estimate.rows) == (420, 50)
    assert answer.steps[1].estimate is None
    assert (answer.expected_ms, answer.expected_unknown) == (420, 1)
    assert expected_line(answer) == "expected 420 ms, 1 step unknown"
    assert "420 ms, 1 step unknown" in "\n".join(plan_lines(answer))


def test_the_tables_of_code_are_not_known(history, fifty_books):
    """Nothing is scaled by the rows of another table."""
    history.write("0001_a", create_model("Book"), "migrations.RunSQL('SELECT 1')")
    history.python("0002_b", "pass")
    keys = [("testapp", "0001_a"), ("testapp", "0002_b"), ("testapp", "0009_none")]
    assert rows_of_steps("default", keys) == {}


def export(path: Path) -> None:
    """Write the export of this ledger."""
    path.write_bytes(export_batch(0)[0])


def test_an_export_of_another_environment_tells(database, tmp_path, settings):
    """Its runs and its rehearsals with data; a changed file is read again."""
    path = tmp_path / "staging.jsonl"
    step = replace(DONE, state=StepState.NOT_STARTED, duration_ms=None, rows=300)
    run, _ = runs.create_run(a_new_run(steps=(a_step_record("0000_z"), step)))
    facts = {"step": DONE.label, "direction": DONE.direction, "state": StepState.APPLIED}
    for ms in (5, 8000):
        state = StepState.FAILED if ms == 5 else StepState.APPLIED
        write(
            Draft(
                action=Action.STEP_FINISHED,
                database="default",
                run=run.id,
                facts={**facts, "state": state, "duration_ms": ms},
            ),
            patience=5.0,
        )
    export(path)
    runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED})
    assert previous_durations([key_of(DONE)]) == {}
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "DURATIONS": {"staging": str(path)},
    }
    ((took,),) = previous_durations([key_of(DONE)]).values()
    assert (took.ms, took.run, took.environment, took.rows) == (
        8000,
        run.id,
        "staging",
        300,
    )
    rehearsal = rehearse(CopyKind.DATA, 900)
    export(path)
    found = previous_durations([key_of(DONE)])[key_of(DONE)]
    exported = {each.rehearsal for each in found if each.environment}
    assert exported == {"", rehearsal}


@pytest.mark.parametrize("text", ["", "not JSON\n", "[]\n", "{}\n", None])
def test_an_export_that_cannot_be_read_is_ignored(
    database, tmp_path, settings, caplog, text
):
    path = tmp_path / "staging.jsonl"
    if text is not None:
        path.write_text(text)
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "DURATIONS": {"staging": str(path)},
    }
    run = on_record(DONE)
    ((took,),) = previous_durations([key_of(DONE)]).values()
    assert took.run == run
    assert ("No durations of staging" in caplog.text) is (text != "")


def test_a_run_tells_its_expected_and_remaining_time(database):
    """Of the steps whose duration is known; nothing remains of a finished step."""
    steps = (
        replace(DONE, name="0001_a", expected_ms=50),
        a_step_record("0002_b", state=StepState.APPLYING, expected_ms=10_000),
        a_step_record("0003_c", expected_ms=3000),
        a_step_record("0004_d"),
    )
    run, _ = runs.create_run(a_new_run(steps=steps))
    answer = run_answer(run)
    assert (answer.expected_ms, answer.expected_unknown) == (13_050, 1)
    assert answer.steps[2].expected_ms == 3000
    started = replace(run, started_at=run.created_at)
    after = clock.parse_time(run.created_at)

    def remaining(seconds: float) -> int | None:
        at = clock.format_time(after + timedelta(seconds=seconds))
        return started.remaining_ms(at)

    assert remaining(0.042) == 13_000
    assert remaining(4.042) == 9_000
    assert remaining(60) == 3_000
    ended = runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED})
    assert run_answer(ended).remaining_ms is None
