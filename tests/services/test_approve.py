"""Tests that a plan waits for enough approvals, and then runs once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from migration_route.access.actors import Actor
from migration_route.conf import route_settings
from migration_route.core.clock import format_time, parse_time
from migration_route.core.enums import Action, ActorKind, RunState, Scope
from migration_route.core.errors import (
    ActiveRun,
    ApprovalRequired,
    Forbidden,
    InvalidRequest,
    InvalidState,
    LaunchFailed,
    Misconfigured,
    PlanChanged,
    StaleCode,
    Unauthenticated,
)
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger.queries import find_run, list_entries
from migration_route.models import Approval, Run
from migration_route.planning.plan import same_plan
from migration_route.presentation.serializers import run_answer
from migration_route.services import runs as running
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.approvals import approve, may_approve, may_reject, reject
from migration_route.services.control import cancel
from migration_route.services.execute import execute
from migration_route.services.queue_worker import Scheduler
from migration_route.services.runs import status
from tests.execution.runs import begin, plan_to
from tests.factories import an_actor, at_once

GRACE = an_actor(name="grace")
MARY = an_actor(name="mary")
CI = Actor(kind=ActorKind.TOKEN, name="ci", scopes=frozenset(Scope))


class Launches:
    """A launcher that starts nothing, and counts."""

    of: ClassVar[list[str]] = []
    fails = False

    def launch(self, permit, run):
        """Count the launch."""
        assert same_plan(permit.plan.fingerprint, run.fingerprint)
        Launches.of.append(run.id)
        if Launches.fails:
            raise LaunchFailed("There is no process to be had.")


@pytest.fixture(autouse=True)
def _waiting(history, settings):
    """Write a history of two migrations, require one approval of everything, and start
    nothing."""
    history.table("0001_a", "made_a")
    Launches.of, Launches.fails = [], False
    policy(settings)


def policy(settings, **words):
    """Set another policy; without arguments, one approval of everything."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": f"{__name__}.Launches",
        "APPROVALS": words,
    }


def last_entry():
    """Return the last entry of the ledger."""
    return list_entries(before=None, limit=1)[0]


def actions():
    """Return the recorded actions, in order."""
    return [entry.action for entry in reversed(list_entries(before=None, limit=50))]


def test_a_run_waits_visibly_and_nothing_is_launched():
    """It shows how many approvals it has and needs, until when and why, and owns its
    database."""
    run = begin("testapp", reason="a deploy")
    assert (run.state, run.waiting_reason) == (RunState.AWAITING_APPROVAL, "approval")
    assert Launches.of == []
    answer = run_answer(run)
    assert answer.waiting is not None
    assert answer.waiting.reason == "approval"
    assert answer.waiting.until is not None
    expires = parse_time(answer.waiting.until) - parse_time(run.created_at)
    assert expires == timedelta(hours=24)
    assert answer.approval is not None
    assert (answer.approval.required, answer.approval.given) == (1, 0)
    assert answer.approval.expires == answer.waiting.until
    assert answer.approval.why == "APPROVALS always requires it"
    (found,) = [found for found in status(an_actor()) if found.database == "default"]
    assert (found.active_run, found.active_state) == (run.id, "awaiting_approval")
    entry = last_entry()
    assert entry.action == Action.RUN_REQUESTED
    assert entry.facts["approval"]["required"] == 1
    with pytest.raises(ApprovalRequired):
        execute(run.id, reexec=pytest.fail)
    assert find_run(run.id).state is RunState.AWAITING_APPROVAL


def test_another_person_lets_it_go_and_it_is_launched_once():
    """F5: the requester may not, a second user may, the record names that user; F6."""
    run = begin("testapp")
    with pytest.raises(Forbidden, match="another user"):
        approve(run.id, an_actor())
    assert last_entry().action == Action.DENIED
    found = approve(run.id, GRACE, reason="read it")
    assert found.state is RunState.QUEUED
    assert Launches.of == [run.id]
    (row,) = Approval.objects.all()
    assert (row.run, row.fingerprint, row.decision) == (run.id, run.fingerprint, "approve")
    assert (row.actor_kind, row.actor_name, row.address) == ("user", "grace", "192.0.2.7")
    assert actions()[-2:] == [Action.APPROVED, Action.RUN_STATE]
    given, queued = reversed(list_entries(before=None, limit=2))
    assert given.facts["fingerprint"] == queued.facts["fingerprint"] == run.fingerprint
    assert (given.actor_name, given.address) == ("grace", "192.0.2.7")
    assert queued.facts["approved_by"] == [["user", "grace"]]
    answer = run_answer(find_run(run.id))
    assert answer.waiting is None
    assert answer.approval is not None
    assert [one.name for one in answer.approval.by] == ["grace"]
    # A repeated approval is the same one; for another run it was never meant.
    assert approve(run.id, GRACE).id == run.id
    assert Launches.of == [run.id]
    cancel(run.id, an_actor(), reason="")
    assert begin("testapp").state is RunState.AWAITING_APPROVAL


@pytest.mark.parametrize(
    ("actor", "error"),
    [
        (CI, Forbidden),
        (Actor(kind=ActorKind.ANONYMOUS), Unauthenticated),
        (an_actor(Scope.APPLY, name="grace"), Forbidden),
        (an_actor(name="grace", databases=frozenset({"other"})), Forbidden),
        (
            Actor(kind=ActorKind.COMMAND, name="ada@host", scopes=frozenset(Scope)),
            Forbidden,
        ),
    ],
    ids=["a machine", "nobody", "without the right", "elsewhere", "her own shell"],
)
def test_who_may_not_approve_is_denied_on_record(actor, error):
    """Nothing is launched, and the denial is on the ledger."""
    run = begin("testapp")
    with pytest.raises(error):
        approve(run.id, actor)
    assert last_entry().action == Action.DENIED
    assert not may_approve(run, actor)
    assert Launches.of == []
    assert find_run(run.id).given == ()


def test_a_token_waits_in_the_same_way_and_a_shell_may_agree():
    """Requesters are distinguished by name and kind."""
    request = ApplyRequest(targets=("testapp",), fingerprint=plan_to("testapp").fingerprint)
    run = apply(request, CI)
    assert run.state is RunState.AWAITING_APPROVAL
    shell = Actor(kind=ActorKind.COMMAND, name="grace@host", scopes=frozenset(Scope))
    assert may_approve(run, shell)
    assert approve(run.id, shell).state is RunState.QUEUED


def test_two_are_needed_and_one_counts_once(settings):
    """A repeated approval changes nothing; another user's does."""
    policy(settings, required=2)
    run = begin("testapp")
    first = approve(run.id, GRACE)
    assert first.state is RunState.AWAITING_APPROVAL
    again = approve(run.id, GRACE)
    assert again.state is RunState.AWAITING_APPROVAL
    assert not may_approve(again, GRACE)
    assert Approval.objects.count() == 1
    answer = run_answer(again).approval
    assert answer is not None
    assert (answer.required, answer.given) == (2, 1)
    assert approve(run.id, MARY).state is RunState.QUEUED
    assert Launches.of == [run.id]


def test_whoever_asks_may_be_one_of_them_where_that_is_allowed(settings):
    """But only explicitly: a request is not an approval."""
    policy(settings, self_approval=True)
    run = begin("testapp")
    assert run.state is RunState.AWAITING_APPROVAL
    assert approve(run.id, an_actor()).state is RunState.QUEUED


def test_a_permission_of_the_project_is_asked_for(settings):
    """The package's right alone is not enough then."""
    policy(settings, permission="shop.dba")
    run = begin("testapp")
    with pytest.raises(Forbidden, match=r"shop\.dba"):
        approve(run.id, GRACE)
    dba = an_actor(Scope.READ, name="grace", holds=lambda name: name == "shop.dba")
    assert may_approve(run, dba)
    assert approve(run.id, dba).state is RunState.QUEUED
    assert find_run(run.id).given[0].permissions == {"shop.dba"}


def test_a_rejection_ends_it_and_frees_the_database():
    """It needs a reason, which is stored with the run."""
    run = begin("testapp")
    with pytest.raises(InvalidRequest, match="reason"):
        reject(run.id, GRACE, reason=" ")
    with pytest.raises(Forbidden):
        reject(run.id, CI, reason="no")
    assert may_reject(run, GRACE)
    assert not may_reject(run, CI)
    ended = reject(run.id, GRACE, reason="not on a Friday")
    assert (ended.state, ended.outcome) == (RunState.REJECTED, "rejected")
    entry = last_entry()
    assert (entry.action, entry.actor_name) == (Action.REJECTED, "grace")
    assert entry.facts["reason"] == "not on a Friday"
    assert entry.facts["fingerprint"] == run.fingerprint
    answer = run_answer(ended).approval
    assert answer is not None
    assert answer.rejected is not None
    assert answer.rejected.reason == "not on a Friday"
    with pytest.raises(InvalidState):
        approve(run.id, MARY)
    assert begin("testapp").id != run.id
    assert Launches.of == []


def test_whoever_asked_may_take_it_back_without_another_right():
    """Another user's request may be withdrawn with the right to operate only."""
    asking = an_actor(Scope.APPLY)
    request = ApplyRequest(targets=("testapp",), fingerprint=plan_to("testapp").fingerprint)
    run = apply(request, asking)
    with pytest.raises(Forbidden):
        cancel(run.id, an_actor(Scope.APPLY, name="grace"), reason="")
    with pytest.raises(Forbidden):
        cancel(run.id, asking, reason="", force=True)
    assert cancel(run.id, asking, reason="").state is RunState.CANCELLED
    run = apply(request, asking)
    operator = an_actor(Scope.OPERATE, name="grace")
    assert cancel(run.id, operator, reason="").state is RunState.CANCELLED


def backdate(run, hours):
    """Make the waiting time of a run that long."""
    then = datetime.now(UTC) - timedelta(hours=hours)
    Run.objects.filter(pk=run.id).update(
        created_at=format_time(then),
        waiting_until=format_time(then + run.approval_requirement.lifetime),
    )
    return find_run(run.id)


def test_a_request_expires_for_whoever_looks_next():
    """Then it cannot be approved, and the database is released."""
    run = backdate(begin("testapp"), 25)
    with pytest.raises(InvalidState, match="expired"):
        approve(run.id, GRACE)
    found = running.show(run.id, GRACE)
    assert (found.state, found.outcome) == (RunState.EXPIRED, "expired")
    run = backdate(begin("testapp"), 25)
    assert Scheduler().run_due_tasks()  # a worker does this periodically
    assert find_run(run.id).state is RunState.EXPIRED
    run = backdate(begin("testapp"), 23)
    assert Scheduler().run_due_tasks()
    assert running.show(run.id, GRACE).state is RunState.AWAITING_APPROVAL


def test_the_same_plan_from_another_build_is_what_was_approved(settings):
    """It was requested before a deploy that left it unchanged: it starts, by the default
    launcher."""
    run = begin("testapp")
    plan = run.fingerprint.rpartition("-")[2]
    Run.objects.filter(pk=run.id).update(fingerprint=f"{'0' * 12}-{'0' * 8}-{plan}")
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    approve(run.id, GRACE)
    assert find_run(run.id).state is RunState.SUCCEEDED


def deploy(settings, build):
    """Set another build for this process and those that it starts."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "BUILD": build}
    route_settings.cache_clear()


def test_an_approval_is_for_one_build(settings):
    """The plan is the same, the code around it may differ: nothing is launched."""
    deploy(settings, "one")
    policy(settings, required=2)
    run = begin("testapp")
    approve(run.id, GRACE)
    deploy(settings, "two")
    with pytest.raises(StaleCode, match="void"):
        approve(run.id, MARY)
    found = find_run(run.id)
    assert (found.state, found.outcome) == (RunState.STALE, "stale_code")
    assert Launches.of == []


def test_a_process_of_another_build_does_not_carry_out_what_was_approved(settings, project):
    """The build was deployed between the approval and the start of the process."""
    deploy(settings, "two")
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()
    deploy(settings, "one")
    run = begin("testapp")
    approve(run.id, GRACE)
    found = find_run(run.id)
    assert (found.state, found.outcome) == (RunState.STALE, "stale_code")
    assert found.error is not None
    assert "one" in found.error.message
    assert "two" in found.error.message
    assert [step.state for step in found.steps] == ["not_started"]


def test_a_run_records_the_build_that_ran_it(settings, project):
    """Not the requested one; without approvals both builds may run the plan."""
    deploy(settings, "two")
    words = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline", "APPROVALS": None}
    settings.MIGRATION_ROUTE = words
    project()
    deploy(settings, "one")
    found = find_run(begin("testapp").id)
    assert (found.state, found.build) == (RunState.SUCCEEDED, "two")
    builds = [entry.build for entry in list_entries(before=None, limit=20)[::-1]]
    assert builds[0] == "one"
    assert set(builds[1:]) == {"two"}


def test_a_changed_plan_makes_it_stale_and_its_approvals_void(history, settings):
    """The approved plan no longer exists: nothing is launched."""
    policy(settings, required=2)
    run = begin("testapp")
    approve(run.id, GRACE)
    history.last = None
    history.table("0001_a", "made_another")
    with pytest.raises((PlanChanged, StaleCode), match="stale") as refused:
        approve(run.id, MARY)
    assert refused.value.facts["run"] == run.id
    found = find_run(run.id)
    assert found.state is RunState.STALE
    assert found.outcome in {"plan_changed", "stale_code"}
    assert found.error is not None
    assert Launches.of == []
    assert begin("testapp").state is RunState.AWAITING_APPROVAL


def test_a_migration_that_is_gone_is_a_changed_plan(history):
    """It can no longer be planned at all."""
    path = history.table("0002_b", "made_b")
    run = begin("testapp.0002_b")
    path.unlink()
    with pytest.raises(PlanChanged, match="stale"):
        approve(run.id, GRACE)
    assert find_run(run.id).state is RunState.STALE


def test_a_new_request_takes_the_place_of_one_whose_plan_is_gone(history):
    """While the plan is unchanged, the waiting run is named instead."""
    run = begin("testapp")
    with pytest.raises(ActiveRun) as refused:
        begin("testapp")
    assert refused.value.facts["run"] == run.id
    history.last = None
    history.table("0001_a", "made_another")
    nonsense = ApplyRequest(targets=("testapp",), fingerprint="0-0-0")
    with pytest.raises(StaleCode):
        apply(nonsense, an_actor())
    assert find_run(run.id).state is RunState.AWAITING_APPROVAL
    fresh = begin("testapp")
    assert fresh.state is RunState.AWAITING_APPROVAL
    assert find_run(run.id).state is RunState.STALE


def test_of_many_at_once_exactly_one_launch_follows(settings):
    """Every approver gets the current run; each approval is recorded."""
    policy(settings, required=2)
    run = begin("testapp")
    people = [an_actor(name=f"person{number}") for number in range(6)]
    answers = at_once(6, lambda number: approve(run.id, people[number]))
    wrong = [
        answer
        for answer in answers
        if isinstance(answer, Exception) and not isinstance(answer, InvalidState)
    ]
    assert wrong == []
    assert Launches.of == [run.id]
    found = find_run(run.id)
    assert found.state is RunState.QUEUED
    assert len(found.given) >= 2
    names = [one.by.name for one in found.given]
    assert len(names) == len(set(names))
    assert actions().count(Action.APPROVED) == len(names)


def test_to_approve_and_to_reject_at_once_has_one_outcome():
    """It was either approved or has ended; never both."""
    run = begin("testapp")

    def say(number):
        return approve(run.id, GRACE) if number else reject(run.id, MARY, reason="no")

    at_once(2, say)
    found = find_run(run.id)
    assert found.state in {RunState.QUEUED, RunState.REJECTED}
    assert Launches.of == ([run.id] if found.state is RunState.QUEUED else [])


def test_a_policy_that_has_become_stricter_is_heeded(settings):
    """The approvals at the request are no longer enough; the run says so."""
    run = begin("testapp")
    policy(settings, required=2, lifetime="1h")
    found = approve(run.id, GRACE)
    assert found.state is RunState.AWAITING_APPROVAL
    assert found.approval_requirement is not None
    assert found.approval_requirement.required == 2
    assert parse_time(found.waiting_until) - parse_time(run.created_at) == timedelta(
        hours=1
    )
    assert approve(run.id, MARY).state is RunState.QUEUED


def test_an_approval_without_a_permission_that_is_new_does_not_count(settings):
    """Its user lacked the permission, and the approval is not upgraded later."""
    policy(settings, required=2)
    run = begin("testapp")
    approve(run.id, GRACE)
    policy(settings, required=2, permission="shop.dba")
    with pytest.raises(Forbidden, match=r"shop\.dba"):
        approve(run.id, MARY)
    dba = [an_actor(name=name, holds=lambda _: True) for name in ("edith", "rose")]
    found = approve(run.id, dba[0])
    assert found.state is RunState.AWAITING_APPROVAL
    answer = run_answer(found).approval
    assert answer is not None
    assert [one.name for one in answer.by] == ["edith"]
    assert approve(run.id, dba[1]).state is RunState.QUEUED


def test_a_policy_that_is_gone_is_still_heeded(settings):
    """The requirement at the request applies to the end."""
    run = begin("testapp")
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "APPROVALS": None}
    assert route_settings().approvals is None
    assert running.show(run.id, GRACE).state is RunState.AWAITING_APPROVAL
    with pytest.raises(Forbidden):
        approve(run.id, an_actor())
    assert approve(run.id, GRACE).state is RunState.QUEUED


def test_a_policy_that_cannot_be_read_lets_nothing_pass(settings):
    """Neither a new request nor a waiting one."""
    run = begin("testapp")
    policy(settings, required="two")
    with pytest.raises(Misconfigured, match="required"):
        approve(run.id, GRACE)
    assert find_run(run.id).state is RunState.AWAITING_APPROVAL
    cancel(run.id, an_actor(), reason="")
    with pytest.raises(Misconfigured, match="required"):
        begin("testapp")


def test_findings_decide_where_the_policy_says_so(history, settings):
    """A reversible plan needs no approval; an irreversible one does, unless the migration
    states a reason."""
    policy(settings, when="findings", findings=["irreversible"])
    run = begin("testapp")
    assert (run.state, run.approval_requirement) == (RunState.QUEUED, None)
    cancel(run.id, an_actor(), reason="")
    history.python("0002_code", "pass")
    run = begin("testapp")
    assert run.state is RunState.AWAITING_APPROVAL
    assert run.approval_requirement is not None
    assert "one_way (testapp.0002_code)" in run.approval_requirement.why
    cancel(run.id, an_actor(), reason="")
    history.last = "0001_a"
    accepted = 'accepted_findings = {"one_way": "There is nothing to take back."}'
    history.python("0002_code", "pass", body=accepted)
    assert begin("testapp").state is RunState.QUEUED


def test_approved_and_not_let_go_it_is_let_go_by_whoever_looks(settings):
    """The process that took the last approval was killed right after."""
    policy(settings, required=2)
    run = begin("testapp")
    approve(run.id, GRACE)
    approved = Approval.objects.get()
    approved.pk, approved.actor_name, approved.actor_key = None, "mary", "mary"
    approved.save()  # the state when nothing followed it
    assert Launches.of == []
    at_once(4, lambda _: running.show(run.id, an_actor()))
    assert find_run(run.id).state is RunState.QUEUED
    assert Launches.of == [run.id]


def still(run, seconds):
    """Make the last heartbeat of a run that old."""
    then = format_time(datetime.now(UTC) - timedelta(seconds=seconds))
    Run.objects.filter(pk=run.id).update(heartbeat_at=then)


def test_queued_and_never_started_it_is_started_once_more():
    """Only where it was approved, once, and by one of the processes that check it."""
    run = begin("testapp")
    approve(run.id, GRACE)
    still(run, 20)
    assert running.show(run.id, GRACE).state is RunState.QUEUED
    assert Launches.of == [run.id]
    still(run, 40)
    at_once(4, lambda _: running.show(run.id, an_actor()))
    assert find_run(run.id).state is RunState.QUEUED
    assert Launches.of == [run.id] * 2
    still(run, 40)
    found = running.show(run.id, GRACE)
    assert (found.state, found.outcome) == (RunState.FAILED, "launch_failed")
    assert Launches.of == [run.id] * 2


def test_what_was_approved_long_ago_is_not_started_any_more():
    """It was not checked for longer than the approval was valid."""
    run = begin("testapp")
    approve(run.id, GRACE)
    still(run, 40)
    Run.objects.filter(pk=run.id).update(
        created_at=format_time(datetime.now(UTC) - timedelta(hours=25))
    )
    assert running.show(run.id, GRACE).state is RunState.EXPIRED
    assert Launches.of == [run.id]


def far_windows():
    """Return a setting by which nothing may start now."""
    later = datetime.now(UTC) + timedelta(hours=3)
    end = later + timedelta(hours=1)
    words = {"start": f"{later:%H:%M}", "end": f"{end:%H:%M}", "timezone": "UTC"}
    return [words]


def test_what_is_approved_outside_of_its_windows_waits_for_them(settings):
    """It is approved, has a process that waits, and starts no earlier than allowed."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "WINDOWS": far_windows()}
    assert route_settings().problems == ()
    run = begin("testapp")
    assert (run.state, run.waiting_reason) == (RunState.AWAITING_APPROVAL, "approval")
    found = approve(run.id, GRACE)
    assert (found.state, found.waiting_reason) == (RunState.WAITING, "window")
    assert found.waiting_until > found.created_at
    assert Launches.of == [run.id]


def test_where_nothing_can_wait_for_a_window_it_is_let_go_when_that_opens(settings):
    """The approval stays; the first check in the window starts it."""
    run = begin("testapp")
    usual = settings.MIGRATION_ROUTE
    settings.MIGRATION_ROUTE = {**usual, "LAUNCHER": "inline", "WINDOWS": far_windows()}
    found = approve(run.id, GRACE)
    assert found.state is RunState.AWAITING_APPROVAL
    assert [one.by.name for one in found.given] == ["grace"]
    settings.MIGRATION_ROUTE = usual
    assert running.show(run.id, GRACE).state is RunState.QUEUED
    assert Launches.of == [run.id]


def test_a_process_that_cannot_be_started_is_a_failed_run():
    """The last approver gets the error; the approval is used up."""
    run = begin("testapp")
    Launches.fails = True
    with pytest.raises(LaunchFailed):
        approve(run.id, GRACE)
    assert find_run(run.id).state is RunState.FAILED


def test_the_same_key_gives_the_run_that_waits():
    """A repeated request of a pipeline gets the same run, also when it has ended."""
    key: dict[str, Any] = {"idempotency_key": "release-42"}
    run = begin("testapp", **key)
    assert begin("testapp", **key).id == run.id
    reject(run.id, GRACE, reason="no")
    again = begin("testapp", **key)
    assert (again.id, again.state) == (run.id, RunState.REJECTED)


def test_a_demand_comes_back_from_its_row_as_it_was():
    """Times included."""
    requirement = ApprovalRequirement(
        required=3, lifetime=timedelta(minutes=90), rule="r", why="w"
    )
    again = json.loads(json.dumps(requirement.to_dict()))
    assert ApprovalRequirement.from_dict(again) == requirement
    assert ApprovalRequirement.from_dict(
        replace(requirement, self_approval=True).to_dict()
    ).self_approval
