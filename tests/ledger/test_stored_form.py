"""The stored form of values: its bytes never change, and what was stored stays readable."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migration_route.core.canonical_json import canonical_json
from migration_route.core.enums import (
    Action,
    ActorKind,
    CopyKind,
    Direction,
    EffectState,
    EventKind,
    Mode,
    Phase,
    RehearsalState,
    RunState,
    StepState,
)
from migration_route.core.values import (
    ApprovalRequirement,
    Impact,
    SignalName,
    stop_signal,
)
from migration_route.ledger.entries import Draft
from migration_route.ledger.hashchain import GENESIS, export_line, link
from migration_route.ledger.records import (
    DeferredRecord,
    EventRecord,
    RunRecord,
    StepRecord,
    deferred_records,
    deferred_to_json,
    run_record,
)
from migration_route.ledger.rehearsals import (
    Limitation,
    ObservedLock,
    ObservedOperation,
    ObservedStatement,
    ObservedStep,
    RehearsalRecord,
    Report,
    rehearsal_record,
    report_from_json,
    report_to_json,
)
from migration_route.ledger.step_evidence import (
    AddedOperations,
    OperationEvidence,
    StepError,
)
from migration_route.ledger.verification import chain_line
from migration_route.models import Entry, Rehearsal, Run

ERROR = StepError(
    type="IntegrityError", message="é is taken", operation=2, sqlstate="23505"
)
MINIMAL = StepRecord(
    app="shop",
    name="0002_é",
    direction=Direction.FORWARDS,
    digest="d" * 64,
    rolls_back=True,
)
STOPPED = StepRecord(
    app="shop",
    name="0003_index",
    direction=Direction.BACKWARDS,
    digest="e" * 64,
    rolls_back=False,
    state=StepState.PARTIAL,
    duration_ms=1200,
    error=ERROR,
    begun=2,
    returned=True,
    done_operations=1,
    operations=(
        OperationEvidence(position=0, description="Add field", state=EffectState.PRESENT),
        OperationEvidence(position=1, description="Raw SQL", state=EffectState.UNKNOWN),
    ),
    added=AddedOperations(
        places=(1, 2), begun=1, repeatable=True, done=1, is_matched=False
    ),
)
REQUIREMENT = ApprovalRequirement(
    required=2,
    permissions=("approve", "shop.approve"),
    self_approval=True,
    lifetime=timedelta(hours=36),
    rule="rule 1 of APPROVALS",
    why="APPROVALS always requires it",
)
DEFERRED = DeferredRecord(
    app="shop",
    name="0004_drop",
    digest="f" * 64,
    phase="after",
    why="It drops.",
    build="b1",
)
IMPACT = Impact(
    tables=frozenset({"b", "a"}),
    parents=frozenset({"c"}),
    indexes=frozenset({"j", "i"}),
    expected_invalid=frozenset({"i"}),
    waits_for_all=True,
    most_rewrites=3,
    rewritten=("a", "a"),
    unforecast=True,
)
DRAFT = Draft(
    action=Action.STEP_FINISHED,
    actor_kind=ActorKind.USER,
    actor_name="zoë",
    address="10.0.0.7",
    database="default",
    run="r" * 32,
    build="b1",
    facts={"state": StepState.APPLIED, "steps": [["shop", "0002", None]], "at": 1.5},
    at="2026-01-02T03:04:05.000006Z",
    uid="u" * 32,
)
DRAFT_COLUMNS = {**DRAFT.to_dict(), "facts": json.dumps(DRAFT.facts)}
EVENT = EventRecord(
    number=7,
    at="2026-01-02T03:04:05.000006Z",
    kind=EventKind.OPERATION_STARTED,
    step=0,
    operation=1,
    duration_ms=None,
    text="Add field é",
    facts={"z": [1, 2], "a": {"nested": True}},
    digest="0" * 64,
)
REPORT = Report(
    steps=(
        ObservedStep(
            app="shop",
            name="0002",
            direction="forwards",
            state="failed",
            duration_ms=12,
            operations=(
                ObservedOperation(
                    position=0,
                    description="Add field",
                    duration_ms=10,
                    statements=(
                        ObservedStatement(
                            sql="ALTER TABLE é",
                            duration_ms=9,
                            locks=(ObservedLock(table="a", mode="X", blocks=("reads",)),),
                        ),
                    ),
                ),
            ),
            error=StepError(type="IntegrityError", message="é", sqlstate="23505"),
        ),
    ),
    differences=("- a",),
    limits=(Limitation(code="x", message="y"),),
    output=("line",),
)

ERROR_TEXT = (
    '{"message":"\\u00e9 is taken","operation":2,"sqlstate":"23505",'
    '"type":"IntegrityError"}'
)
STORED = {
    "step not started": (
        MINIMAL,
        '{"added":null,"app":"shop","begun":null,"digest":"dddddddddddddddddddd'
        'dddddddddddddddddddddddddddddddddddddddddddd","direction":"forwards","'
        'done_operations":null,"duration_ms":null,"error":null,"name":"0002_\\u0'
        '0e9","operations":null,"returned":false,"rolls_back":true,"state":"not'
        '_started"}',
    ),
    "stopped step": (
        STOPPED,
        '{"added":{"begun":1,"done":1,"is_matched":false,"places":[1,2],"repeat'
        'able":true},"app":"shop","begun":2,"digest":"eeeeeeeeeeeeeeeeeeeeeeeee'
        'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee","direction":"backwards","done'
        '_operations":1,"duration_ms":1200,"error":{"message":"\\u00e9 is taken"'
        ',"operation":2,"sqlstate":"23505","type":"IntegrityError"},"name":"000'
        '3_index","operations":[{"description":"Add field","position":0,"state"'
        ':"present"},{"description":"Raw SQL","position":1,"state":"unknown"}],'
        '"returned":true,"rolls_back":false,"state":"partial"}',
    ),
    "approval requirement": (
        REQUIREMENT,
        '{"lifetime":129600.0,"permissions":["approve","shop.approve"],"require'
        'd":2,"rule":"rule 1 of APPROVALS","self_approval":true,"why":"APPROVAL'
        'S always requires it"}',
    ),
    "impact": (
        IMPACT,
        '{"expected_invalid":["i"],"indexes":["i","j"],"most_rewrites":3,"paren'
        'ts":["c"],"rewritten":["a","a"],"tables":["a","b"],"unforecast":true,"'
        'waits_for_all":true}',
    ),
}


@pytest.mark.parametrize(("value", "stored"), STORED.values(), ids=STORED)
def test_the_stored_form_of_a_value_does_not_change(value: Any, stored: str) -> None:
    """Rows and entries that contain it were digested or compared as text."""
    assert canonical_json(value.to_dict()) == stored


@pytest.mark.parametrize(("value", "stored"), STORED.values(), ids=STORED)
def test_a_stored_value_reads_as_the_same_value(value: Any, stored: str) -> None:
    assert type(value).from_dict(json.loads(stored)) == value


def test_an_error_keeps_its_text() -> None:
    assert canonical_json(ERROR.to_dict()) == ERROR_TEXT
    assert StepError(**json.loads(ERROR_TEXT)) == ERROR


def test_a_step_stored_without_its_optional_keys_is_read() -> None:
    """The first versions of the rows had none of them."""
    stored = MINIMAL.to_dict()
    for key in ("begun", "returned", "done_operations", "operations", "added"):
        del stored[key]
    assert StepRecord.from_dict(stored) == MINIMAL


def test_deferred_steps_keep_their_text() -> None:
    text = deferred_to_json([DEFERRED])
    assert text == (
        '[{"app":"shop","build":"b1","digest":"ffffffffffffffffffffffffffffffff'
        'ffffffffffffffffffffffffffffffff","name":"0004_drop","phase":"after","'
        'why":"It drops."}]'
    )
    assert deferred_records(text) == (DEFERRED,)


def test_a_health_signal_is_stored_without_what_only_a_decision_needs() -> None:
    signal = replace(
        stop_signal(SignalName.DISK, "Full.", free=[1, 2]), lacks_forecast=True
    )
    assert signal.to_dict() == {
        "name": "disk",
        "state": "stop",
        "reason": "Full.",
        "facts": {"free": [1, 2]},
    }


def test_the_digest_of_an_entry_does_not_change() -> None:
    """A chain that was written before still verifies."""
    assert link(GENESIS, DRAFT.to_dict()) == (
        "7311f725f4e75800a02ad779dd9f7e0b10f0a7542b0275663feaadfb443adcc9"
    )
    assert Draft.from_dict(json.loads(json.dumps(DRAFT.to_dict()))) == DRAFT


def test_the_digest_of_an_event_does_not_change() -> None:
    assert link(GENESIS, EVENT.words()) == (
        "7f91f79b0a63fb01ec3fd1669076208fa20e8deda8b9e5da222914612280c0c0"
    )
    spooled = json.loads(json.dumps({**EVENT.words(), "digest": EVENT.digest}))
    assert EventRecord(**spooled) == EVENT


def test_an_exported_line_does_not_change() -> None:
    row = Entry(sequence=3, previous=GENESIS, digest="0" * 64, **DRAFT_COLUMNS)
    assert export_line(chain_line(row)).decode() == (
        '{"action":"step_finished","actor_kind":"user","actor_name":"zo\\u00eb",'
        '"address":"10.0.0.7","at":"2026-01-02T03:04:05.000006Z","build":"b1","'
        'database":"default","digest":"0000000000000000000000000000000000000000'
        '000000000000000000000000","facts":{"at":1.5,"state":"applied","steps":'
        '[["shop","0002",null]]},"previous":"0000000000000000000000000000000000'
        '000000000000000000000000000000","run":"rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr'
        'r","sequence":3,"uid":"uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu"}\n'
    )


def test_a_report_only_gains_fields() -> None:
    """One that was stored without them is read as before."""
    stored = (
        '{"steps":[{"app":"shop","name":"0002","direction":"forwards","state":"'
        'failed","duration_ms":12,"operations":[{"position":0,"description":"Ad'
        'd field","duration_ms":10,"runs_python":false,"queries":0,"distinct":0'
        ',"omitted":0,"statements":[{"sql":"ALTER TABLE é","duration_ms":9,"tim'
        'es":1,"total_ms":0,"rows":null,"locks":[{"table":"a","mode":"X","block'
        's":["reads"],"held_ms":null}],"rewrites":[],"failed":false}]}],"error"'
        ':{"type":"IntegrityError","message":"é","operation":null,"sqlstate":"2'
        '3505"}}],"back":null,"differences":["- a"],"limits":[{"code":"x","mess'
        'age":"y","step":null}],"copy_ms":null,"duration_ms":null,"output":["li'
        'ne"]}'
    )
    added = '"sql_differences":[],"error":{'
    assert report_to_json(REPORT) == stored.replace('"error":{', added)
    assert report_from_json(stored) == REPORT


@pytest.mark.usefixtures("database")
def test_a_row_of_a_run_is_read() -> None:
    """Every column of a row that was stored before reaches the record."""
    row = Run(
        id="1" * 32,
        database="default",
        state="failed",
        outcome="failed",
        direction="backwards",
        mode="fake",
        targets='["shop.0002"]',
        fingerprint="a-b-c",
        steps=f"[{STORED['stopped step'][1]}]",
        error=ERROR_TEXT,
        actor_kind="user",
        actor_name="zoë",
        actor_key="7",
        reason="why",
        build="b1",
        phase="after_deploy",
        permit="p",
        deferred=deferred_to_json([DEFERRED]),
        resumes="2" * 32,
        waiting_reason="health",
        waiting_until="later",
        waiting_facts='{"attempt": 2}',
        control_request="pause",
        not_before="soon",
        override_schedule=True,
        rebuild_invalid_indexes=True,
        claimed_by="c",
        host="h",
        supervisor_pid=1,
        worker_pid=2,
        created_at="t1",
        started_at="t2",
        finished_at="t3",
        heartbeat_at="t4",
        last_event=9,
    )
    assert run_record(row) == RunRecord(
        id="1" * 32,
        database="default",
        state=RunState.FAILED,
        outcome="failed",
        direction=Direction.BACKWARDS,
        mode=Mode.FAKE,
        targets=("shop.0002",),
        fingerprint="a-b-c",
        steps=(STOPPED,),
        error=ERROR,
        actor_kind=ActorKind.USER,
        actor_name="zoë",
        actor_key="7",
        reason="why",
        build="b1",
        phase=Phase.AFTER_DEPLOY,
        permit="p",
        deferred=(DEFERRED,),
        resumes="2" * 32,
        waiting_reason="health",
        waiting_until="later",
        waiting_facts={"attempt": 2},
        control_request="pause",
        not_before="soon",
        override_schedule=True,
        rebuild_invalid_indexes=True,
        claimed_by="c",
        host="h",
        supervisor_pid=1,
        worker_pid=2,
        created_at="t1",
        started_at="t2",
        finished_at="t3",
        heartbeat_at="t4",
        last_event=9,
    )


def test_a_row_of_a_rehearsal_is_read() -> None:
    row = Rehearsal(
        id="1" * 32,
        database="default",
        state="failed",
        kind="schema",
        round_trip=True,
        in_place=False,
        direction="forwards",
        targets="[]",
        fingerprint="a-b-c",
        steps='[["shop", "0002", "d"]]',
        phase="",
        left_out="",
        actor_kind="token",
        actor_name="ci",
        reason="",
        build="b1",
        scratch_database="s",
        is_removed=False,
        host="h",
        pid=3,
        created_at="t1",
        started_at="t2",
        finished_at="t3",
        heartbeat_at="t4",
        error=ERROR_TEXT,
        report=report_to_json(REPORT),
    )
    assert rehearsal_record(row) == RehearsalRecord(
        id="1" * 32,
        database="default",
        state=RehearsalState.FAILED,
        kind=CopyKind.SCHEMA,
        round_trip=True,
        in_place=False,
        direction=Direction.FORWARDS,
        targets=(),
        fingerprint="a-b-c",
        steps=(("shop", "0002", "d"),),
        phase=None,
        left_out=(),
        actor_kind=ActorKind.TOKEN,
        actor_name="ci",
        reason="",
        build="b1",
        scratch_database="s",
        is_removed=False,
        host="h",
        pid=3,
        created_at="t1",
        started_at="t2",
        finished_at="t3",
        heartbeat_at="t4",
        error=ERROR,
        report=REPORT,
    )
