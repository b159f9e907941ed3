"""Tests of the text output on a terminal."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from migration_route.core.enums import (
    ActorKind,
    Direction,
    EffectState,
    EventKind,
    Mode,
    Phase,
    RunState,
    Severity,
    StepState,
)
from migration_route.core.errors import DatabaseUnavailable
from migration_route.ledger.records import DeferredRecord, EventRecord, RunRecord
from migration_route.ledger.step_evidence import OperationEvidence, StepError
from migration_route.planning.plan import (
    DatabaseStatus,
    Deferred,
    Finding,
    Operation,
    StepPhase,
)
from migration_route.presentation import schemas, serializers
from migration_route.presentation.serializers import plan_answer
from migration_route.presentation.text.plans import finding_lines
from migration_route.presentation.text.runs import (
    event_line,
    plan_lines,
    run_lines,
    runs_lines,
    status_lines,
    suggested_resolution,
    what_to_do,
)
from tests.factories import a_plan, a_step, a_step_record

RUN = RunRecord(
    id="0" * 32,
    database="default",
    state=RunState.PARTIAL,
    outcome="partial",
    direction=Direction.FORWARDS,
    mode=Mode.APPLY,
    targets=("testapp",),
    fingerprint="a-b",
    steps=(
        a_step_record("0001_a", state=StepState.APPLIED, duration_ms=12),
        a_step_record(
            "0002_b",
            state=StepState.PARTIAL,
            error=StepError(type="DataError", message="too long", operation=1),
        ),
    ),
    error=StepError(type="DataError", message="too long", operation=1),
    actor_kind=ActorKind.TOKEN,
    actor_name="ci",
    reason="a deploy",
    build="v1",
    waiting_reason="lock",
    waiting_until="",
    waiting_facts={},
    control_request="",
    host="",
    supervisor_pid=None,
    worker_pid=None,
    created_at="2026-11-23T17:00:00.000000Z",
    started_at="2026-11-23T17:00:01.000000Z",
    finished_at="",
    heartbeat_at="2026-11-23T17:00:01.000000Z",
    last_event=3,
)


def lines_of(plan):
    """Render a plan as the command does, through the wire types."""
    return plan_lines(plan_answer(plan))


def test_a_run_tells_its_steps_its_error_and_what_to_do():
    """Operations are counted from one in the text."""
    text = "\n".join(run_lines(serializers.run_answer(RUN)))
    assert "0" * 32 in text
    assert "reason: a deploy" in text
    assert "waiting: lock" in text
    assert "12 ms" in text
    assert "operation 2: DataError: too long" in text
    assert "resolve this run" in text
    assert text.count("too long") == 1


@pytest.mark.parametrize(
    ("states", "direction", "way"),
    [
        ("present present", "forwards", "applied"),
        ("present present", "backwards", "reverted"),
        ("present absent", "forwards", "continue"),
        ("present partial", "forwards", "continue"),
        ("present unknown", "forwards", "as_is"),
        ("", "forwards", "as_is"),
    ],
)
def test_the_way_on_follows_what_is_known_of_the_operations(states, direction, way):
    """It is suggested, and checked when it is requested."""
    operations = tuple(
        OperationEvidence(position=number, description="x", state=EffectState(state))
        for number, state in enumerate(states.split())
    )
    step = a_step_record(
        state=StepState.PARTIAL,
        direction=Direction(direction),
        rolls_back=False,
        operations=operations,
    )
    run = replace(RUN, steps=(step,))
    answer = serializers.run_answer(run)
    assert suggested_resolution(answer) == way
    assert "with a reason" in what_to_do(answer)


def test_an_error_of_no_step_is_told_at_the_end():
    """A run may fail before or between its steps."""
    run = replace(RUN, state=RunState.FAILED, steps=(a_step_record(),))
    assert list(run_lines(serializers.run_answer(run)))[-1] == "  DataError: too long"


def test_runs_are_a_line_each():
    """Id, time, database, state and actor."""
    (line,) = runs_lines(serializers.runs_answer([RUN], limit=2))
    assert all(word in line for word in ("0" * 32, "2026-11-23T17:00:00Z", "partial", "ci"))


def test_a_plan_tells_what_cannot_be_undone():
    """Steps with their marks, findings with their hints, and the fingerprint."""
    step = a_step(
        "0001_a",
        rolls_back=False,
        reversible=False,
        operations=(Operation(description="Raw Python operation", opaque=True),),
    )
    finding = Finding(code="one_way", severity=Severity.INFO, message="No way.", hint="Do.")
    text = "\n".join(lines_of(a_plan(step, findings=(finding,), mode=Mode.FAKE)))
    assert "can be left partially applied if it fails or is cancelled, irreversible" in text
    assert "Raw Python operation (runs code)" in text
    assert "info: one_way: No way." in text
    assert "Do." in text
    assert "(fake)" in text
    assert "1 step" in text
    assert a_plan().fingerprint in text


def test_a_finding_names_its_operation_and_why_it_is_accepted():
    """Counted from one, as in the list of operations."""
    finding = Finding(
        code="drops_column",
        severity=Severity.INFO,
        step="testapp.a",
        operation=1,
        message="It goes.",
        hint="Do not.",
        accepted="Empty.",
    )
    text = "\n".join(lines_of(a_plan(a_step("a"), findings=(finding,))))
    assert "info: drops_column testapp.a, operation 2: It goes." in text
    assert "accepted: Empty." in text
    assert "Do not." not in text


def test_a_plan_of_nothing_says_so():
    """In one sentence."""
    assert next(lines_of(a_plan())) == "Nothing to do on default."


def test_a_status_tells_each_database():
    """Pending migrations, the active run, and errors."""
    standing = DatabaseStatus(
        database="default",
        vendor="sqlite",
        reachable=True,
        pending=tuple(f"testapp.{n:04}_x" for n in range(25)),
        applied=3,
        ahead=("testapp.0099_y",),
        active_run="1" * 32,
        active_state="running",
        unresolved_run="2" * 32,
        problem=DatabaseUnavailable("The ledger cannot be read."),
    )
    gone = DatabaseStatus(database="other", vendor="mysql", reachable=False)
    text = "\n".join(status_lines(serializers.status_answer([standing, gone])))
    assert "default (sqlite): 25 pending, 3 applied" in text
    assert "and 5 more" in text
    assert "testapp.0099_y" in text
    assert f"run {'1' * 32} is running" in text
    assert f"run {'2' * 32} is partial" in text
    assert "database_unavailable: The ledger cannot be read." in text
    assert "other (mysql): unreachable" in text


def test_what_cannot_be_counted_is_not_nothing():
    """Broken files are not an empty list."""
    standing = DatabaseStatus(database="a", vendor="sqlite", reachable=True, applied=1)
    assert (
        next(status_lines(serializers.status_answer([standing])))
        == "a (sqlite): ? pending, 1 applied"
    )
    assert serializers.status_answer([standing]).databases[0].pending is None


EVENT = EventRecord(
    number=1,
    at="",
    kind=EventKind.OUTPUT,
    step=0,
    operation=None,
    duration_ms=5,
    text="words",
    facts={},
    digest="",
)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (EventKind.OUTPUT, "  | words"),
        (EventKind.STEP_STARTED, "words …"),
        (EventKind.STEP_FINISHED, "words done (5 ms)"),
        (EventKind.OPERATION_STARTED, "  words"),
        (EventKind.STATEMENT_RUNNING, "  still running: words"),
        (EventKind.ERROR, "  words"),
        (EventKind.STATEMENT, None),
        (EventKind.STATE, None),
        (EventKind.OPERATION_FINISHED, None),
        (EventKind.STATEMENTS_OMITTED, None),
    ],
)
def test_each_kind_of_event_has_its_line(kind, line):
    """Or none, where a line would be noise."""
    assert event_line(serializers.event_answer(replace(EVENT, kind=kind))) == line


def test_a_run_on_the_wire_has_nothing_where_nothing_is():
    """An empty text is null."""
    bare = replace(RUN, outcome="", waiting_reason="", started_at="", error=None, steps=())
    found = serializers.run_answer(bare)
    assert (found.outcome, found.waiting, found.started_at, found.error) == (None,) * 4
    found = serializers.run_answer(RUN)
    assert found.waiting is not None
    assert found.waiting.reason == "lock"
    error = found.steps[1].error
    assert error is not None
    assert error.operation == 1


def test_a_page_that_is_full_has_a_cursor():
    """A page that is not full is the last."""
    assert serializers.runs_answer([RUN], limit=1).next == RUN.id
    assert serializers.runs_answer([RUN], limit=2).next is None


LATER = Deferred(
    app="testapp",
    name="0003_remove",
    phase=StepPhase(phase=Phase.AFTER_DEPLOY, why="The running release reads it."),
    why="It comes after the deploy.",
    since="2026-01-02T03:04:05.000000Z",
    by="one",
    overdue=True,
)


def test_a_phase_tells_what_it_leaves_out():
    """With the date, and whether that is overdue."""
    plan = a_plan(a_step("0002_add"), phase=Phase.BEFORE_DEPLOY, deferred=(LATER,))
    lines = "\n".join(lines_of(plan))
    assert "forwards, before_deploy, 1 step" in lines
    assert (
        "deferred: testapp.0003_remove: after_deploy, deferred since 2026-01-02T03:04:05Z, "
        "overdue. It comes after the deploy." in lines
    )


def test_status_tells_what_is_required_from_what_comes_later():
    """Both numbers, and the names of the second."""
    found = DatabaseStatus(
        database="default",
        vendor="sqlite",
        reachable=True,
        pending=("testapp.0003_remove",),
        required=(),
        later=(LATER,),
        applied=2,
    )
    lines = "\n".join(status_lines(serializers.status_answer([found])))
    assert "0 required now, the rest after the deploy" in lines
    assert "testapp.0003_remove: after_deploy, deferred since" in lines
    answer = serializers.status_answer([found]).databases[0]
    assert (answer.pending, answer.required) == (1, 0)
    assert answer.deferred[0].overdue


def test_a_run_tells_its_phase():
    """With what it deferred, and why."""
    left = DeferredRecord(
        app="testapp",
        name="0003_remove",
        digest="",
        phase="after_deploy",
        why="It comes after the deploy.",
        build="one",
    )
    run = replace(RUN, phase=Phase.BEFORE_DEPLOY, deferred=(left,))
    lines = "\n".join(run_lines(serializers.run_answer(run)))
    assert "phase: before_deploy" in lines
    assert "deferred: testapp.0003_remove. It comes after the deploy." in lines
    assert serializers.run_answer(run).phase == "before_deploy"


def a_finding(code: str, severity: str, step: str, hint: str = "") -> schemas.FindingAnswer:
    """Return a finding as on the wire."""
    return schemas.FindingAnswer(
        code=code,
        severity=severity,
        step=step,
        operation=None,
        message="It is so.",
        hint=hint,
        accepted="",
    )


def test_findings_come_by_severity_and_a_shared_hint_comes_once():
    """However the plan orders them; an unknown severity comes last."""
    lines = list(
        finding_lines(
            [
                a_finding("one_way", "info", "a"),
                a_finding("adds_unique", "warning", "a", "Find duplicates."),
                a_finding("later", "new_severity", "a"),
                a_finding("irreversible", "blocking", "b"),
                a_finding("drops_rows", "warning", "a"),
                a_finding("adds_unique", "warning", "b", "Find duplicates."),
            ]
        )
    )
    assert lines == [
        "  blocking: irreversible b: It is so.",
        "  warning: adds_unique a: It is so.",
        "  warning: adds_unique b: It is so.",
        "    Find duplicates.",
        "  warning: drops_rows a: It is so.",
        "  info: one_way a: It is so.",
        "  new_severity: later a: It is so.",
    ]


@pytest.mark.parametrize(
    ("findings", "line"),
    [
        ([], "risk: safe"),
        ([("one_way", "info")], "risk: safe, 1 note"),
        ([("adds_unique", "warning")] * 2, "risk: caution, 2 warnings"),
        (
            [("drops_rows", "warning"), ("one_way", "info")],
            "risk: dangerous, 1 warning, 1 note",
        ),
        ([("irreversible", "blocking")], "risk: dangerous, 1 blocking"),
    ],
)
def test_a_plan_begins_with_its_risk(findings, line):
    """If its findings are known: without them it must not be called safe."""
    plan = replace_findings(
        plan_answer(a_plan(a_step("a"))),
        [a_finding(code, kind, "a") for code, kind in findings],
    )
    assert list(plan_lines(plan))[1] == line
    assert not any(one.startswith("risk:") for one in plan_lines(plan, has_details=False))


def test_a_long_plan_is_at_least_as_dangerous_as_what_was_read():
    """The rest may be worse."""
    plan = msgspec.structs.replace(plan_answer(a_plan(a_step("a"))), details_next=1)
    assert list(plan_lines(plan))[1] == "risk: at least safe"


def replace_findings(
    plan: schemas.PlanAnswer, findings: list[schemas.FindingAnswer]
) -> schemas.PlanAnswer:
    """Return the plan with other findings."""
    return msgspec.structs.replace(plan, findings=findings)
