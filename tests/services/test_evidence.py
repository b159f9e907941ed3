"""Tests that the evidence of a run contains what is recorded of it, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import msgspec
import pytest

from migration_route.conf.databases import using_private_connection
from migration_route.core.canonical_json import canonical_json
from migration_route.core.enums import (
    Action,
    ActorKind,
    CopyKind,
    Direction,
    EventKind,
    RehearsalState,
    RunState,
    Scope,
    StepState,
)
from migration_route.core.errors import Forbidden, InvalidState, UnknownRun
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger import approvals, queries, rehearsals, runs
from migration_route.ledger.approvals import ApprovalVote
from migration_route.ledger.entries import Draft, write
from migration_route.ledger.evidence import SignatureState, verify_bundle
from migration_route.ledger.queries import find_run, list_entries
from migration_route.ledger.rehearsals import NewRehearsal
from migration_route.ledger.run_log import RunLog
from migration_route.models import Entry, Event, Run
from migration_route.presentation.serializers import rehearsal_answer, run_answer
from migration_route.services import evidence
from tests.factories import a_new_run, an_actor

pytestmark = pytest.mark.usefixtures("database")


def another_entry() -> None:
    """Append an entry that is not about the run."""
    write(Draft(action=Action.DENIED, actor_name="eve"), patience=1)


def recorded(state: RunState = RunState.SUCCEEDED, **changes: Any) -> str:
    """Record a whole run, with entries of others between its own."""
    run, _ = runs.create_run(a_new_run(**changes))
    another_entry()
    runs.move(run.id, to=RunState.RUNNING, expected={run.state})
    with using_private_connection("default"):
        log = RunLog(find_run(run.id))
        log.event(EventKind.STEP_STARTED, step=0, text="testapp.0002_more")
        log.step(0, StepState.APPLYING)
        log.event(EventKind.STATEMENT, step=0, text="CREATE TABLE łódź", duration_ms=1)
        log.event(EventKind.STEP_FINISHED, step=0, duration_ms=5)
        log.step(0, StepState.APPLIED, duration_ms=5)
        assert log.flush()
    if state is not RunState.RUNNING:
        runs.move(run.id, to=state, expected={RunState.RUNNING})
    another_entry()
    return run.id


def a_rehearsal(**changes: Any) -> rehearsals.RehearsalRecord:
    """Record a rehearsal of the plan of `a_new_run` that has ended."""
    new = NewRehearsal(
        database="default",
        kind=CopyKind.SCHEMA,
        round_trip=False,
        direction=Direction.FORWARDS,
        targets=(),
        fingerprint=a_new_run().fingerprint,
        steps=(),
        actor_kind=ActorKind.USER,
        actor_name="grace",
        address="",
        reason="before the deploy",
        build="this build",
    )
    made = rehearsals.create_rehearsal(replace(new, **changes))
    to = RehearsalState.SUCCEEDED
    return rehearsals.move(made.id, to=to, expected={made.state})


def contents(run: str) -> dict[str, Any]:
    """Return the files of the evidence of a run; those of JSON decoded."""
    with ZipFile(BytesIO(evidence.bundle(run, an_actor()).content)) as archive:
        files = {name: archive.read(name).decode("ascii") for name in archive.namelist()}
    return {
        name: json.loads(text) if name.endswith(".json") else text
        for name, text in files.items()
    }


def test_a_bundle_contains_what_is_recorded():
    """The run, its steps, its events and its own entries, as they are stored."""
    run = recorded()
    files = contents(run)
    record = find_run(run)
    assert files["run.json"] == json.loads(canonical_json(_plain(run_answer(record))))
    assert files["run.json"]["state"] == "succeeded"
    plan = files["plan.json"]
    assert plan["fingerprint"] == record.fingerprint
    assert [(s["name"], s["digest"]) for s in plan["steps"]] == [
        (step.name, step.digest) for step in record.steps
    ]
    events = queries.list_events(run, after=0, limit=100)
    assert files["events.json"] == [json.loads(canonical_json(e.to_dict())) for e in events]
    entries = [json.loads(line) for line in files["ledger.jsonl"].splitlines()]
    own = [e for e in reversed(list_entries(before=None, limit=50)) if e.run == run]
    assert [(e["sequence"], e["digest"]) for e in entries] == [
        (entry.sequence, entry.digest) for entry in own
    ]
    assert {entry["run"] for entry in entries} == {run}
    newest = Entry.objects.order_by("-sequence")[0]
    assert files["manifest.json"]["ledger_head"] == f"{newest.sequence}:{newest.digest}"
    assert files["manifest.json"]["run"] == run
    assert files["approvals.json"] == {"requirement": None, "decisions": []}


def _plain(answer: Any) -> Any:
    return msgspec.to_builtins(answer)


def test_a_bundle_is_verified_with_the_keys_of_the_settings(settings):
    """Also after the key was rotated, as Django verifies signatures."""
    found = evidence.bundle(recorded(), an_actor())
    assert found.name.startswith("evidence-")
    result = verify_bundle(found.content, [settings.SECRET_KEY])
    assert (result.problem, result.signature) == ("", SignatureState.VALID)
    # The first link leads to the start of the ledger, the second one to another's entry.
    assert (result.entries, result.links, result.events) == (5, 4, 3)
    keys = ["a new key", settings.SECRET_KEY]
    assert verify_bundle(found.content, keys).signature is SignatureState.VALID
    assert verify_bundle(found.content, keys[:1]).signature is SignatureState.INVALID


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED, RunState.RUNNING])
def test_every_run_has_evidence(state):
    """Of a run that is still active, what is recorded so far."""
    run = recorded(state)
    result = verify_bundle(evidence.bundle(run, an_actor()).content)
    assert (result.problem, result.state) == ("", state)
    assert contents(run)["run.json"]["ended"] is (state is not RunState.RUNNING)


def test_a_run_that_never_started_has_evidence():
    run, _ = runs.create_run(a_new_run())
    result = verify_bundle(evidence.bundle(run.id, an_actor()).content)
    assert (result.problem, result.entries, result.events) == ("", 1, 0)


def test_more_events_than_one_query_returns_are_all_there(monkeypatch):
    monkeypatch.setattr(evidence, "_EVENTS", 1)
    assert len(contents(recorded())["events.json"]) == 3


def test_the_approvals_are_there_with_who_gave_them():
    """And with what was required."""
    requirement = ApprovalRequirement(required=1, rule="first", why="the test says so")
    run, _ = runs.create_run(a_new_run(approval_requirement=requirement))
    vote = ApprovalVote(
        actor_kind=ActorKind.USER,
        actor_name="grace",
        actor_key="7",
        address="192.0.2.3",
        permissions=frozenset({"approve"}),
        reason="reviewed",
    )
    approvals.record_approval(run.id, vote, approval_requirement=requirement, until="")
    found = contents(run.id)["approvals.json"]
    assert found["requirement"]["rule"] == "first"
    (decision,) = found["decisions"]
    assert decision["by"] == {"kind": "user", "name": "grace"}
    assert (decision["decision"], decision["reason"]) == ("approve", "reviewed")
    assert decision["permissions"] == ["approve"]
    assert verify_bundle(evidence.bundle(run.id, an_actor()).content).problem == ""


def test_the_rehearsals_of_the_plan_are_there():
    """Newest first, in any build, on the database of the run, and before its end."""
    name = a_new_run().fingerprint.rpartition("-")[2]
    mine = [a_rehearsal(), a_rehearsal(fingerprint=f"another-build-{name}")]
    a_rehearsal(database="other")
    a_rehearsal(fingerprint="a-b-c")
    run = recorded()
    a_rehearsal()
    found = contents(run)["rehearsals.json"]
    assert found == [_plain(rehearsal_answer(each)) for each in reversed(mine)]


def test_a_denied_request_about_an_ended_run_is_part_of_its_evidence():
    """It is an entry of the run; the head at its end stays the same."""
    run = recorded()
    head = find_run(run).head
    write(Draft(action=Action.DENIED, actor_name="eve", run=run), patience=1)
    assert verify_bundle(evidence.bundle(run, an_actor()).content).entries == 6
    assert find_run(run).head == head
    last = Entry.objects.filter(run=run, action="run_state").order_by("-sequence")[0]
    assert str(head) == f"{last.sequence}:{last.digest}"


def test_a_run_that_is_active_has_no_head():
    assert find_run(recorded(RunState.RUNNING)).head is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda run: Run.objects.filter(pk=run).update(state="failed"), "run.json has"),
        (
            lambda run: Run.objects.filter(pk=run).update(fingerprint="x"),
            "plan.json is not",
        ),
        (lambda run: Event.objects.filter(run=run, number=2).delete(), "events.json"),
        (lambda run: Event.objects.filter(run=run).delete(), "events.json"),
        (lambda run: Entry.objects.filter(sequence=1).update(actor_name="x"), "Line 1"),
        (lambda run: Entry.objects.filter(sequence=1).delete(), "does not start with"),
        (lambda run: Entry.objects.filter(sequence=5).update(facts="x"), "Line 5"),
    ],
)
def test_a_record_that_was_changed_in_the_tables_is_found_in_its_bundle(change, problem):
    """The bundle is signed, but it shows the damage."""
    run = recorded()
    assert change(run)
    found = verify_bundle(evidence.bundle(run, an_actor()).content)
    assert problem in found.problem


def test_a_run_without_entries_has_no_evidence():
    """The error says what to do."""
    run = recorded()
    Entry.objects.filter(run=run).delete()
    with pytest.raises(InvalidState, match="ledger verify"):
        evidence.bundle(run, an_actor())


def test_only_who_may_read_the_database_gets_the_evidence():
    """The denial is an entry."""
    run = recorded()
    actor = an_actor(Scope.READ, databases=frozenset({"other"}))
    with pytest.raises(Forbidden):
        evidence.bundle(run, actor)
    last = list_entries(before=None, limit=1)[0]
    assert (last.action, last.run, last.facts["verb"]) == ("denied", run, "evidence")
    with pytest.raises(Forbidden):
        evidence.bundle(run, replace(actor, scopes=frozenset(), databases=None))
    with pytest.raises(UnknownRun):
        evidence.bundle("f" * 32, an_actor())
