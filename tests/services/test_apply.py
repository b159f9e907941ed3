"""Tests that a plan becomes a run only where everything allows it, and once."""

from __future__ import annotations

import pytest
from django.db import connections

from migration_route.access.actors import Actor
from migration_route.core.enums import Action, ActorKind, Mode, RunState, Scope
from migration_route.core.errors import (
    ActiveRun,
    DatabaseUnavailable,
    FingerprintRequired,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    LaunchFailed,
    Misconfigured,
    PlanChanged,
    StaleCode,
    Unauthenticated,
    UnknownDatabase,
)
from migration_route.ledger import runs
from migration_route.ledger.queries import list_entries, list_runs
from migration_route.planning.plan import PlanRequest
from migration_route.services import audit
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.audit import WINDOW, AnonymousDenialThrottle
from migration_route.services.control import cancel
from migration_route.services.plans import plain_plan
from tests.execution.runs import Keeper, begin, plan_to
from tests.factories import an_actor, at_once, tables, vendor, written_by_another


@pytest.fixture(autouse=True)
def _kept(history, settings):
    """Write a history of one migration, with a launcher that starts nothing."""
    history.table("0001_a", "made_a")
    keeper = "tests.execution.runs.Keeper"
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": keeper}
    Keeper.kept = None


def request(**changes: object) -> ApplyRequest:
    """Return the request of a user who has read the plan."""
    usual = {"targets": ("testapp",), "fingerprint": plan_to("testapp").fingerprint}
    return ApplyRequest(**{**usual, **changes})  # type: ignore[arg-type]


def last_entry() -> tuple[str, str, str]:
    """Return action, code and actor of the last entry."""
    entry = list_entries(before=None, limit=1)[0]
    return entry.action, entry.facts.get("code", ""), entry.actor_name


def test_a_plan_that_was_read_becomes_a_queued_run():
    """The launcher gets the permit and the matching run."""
    run = apply(request(reason="a deploy"), an_actor())
    assert (run.state, run.reason, run.actor_name) == (RunState.QUEUED, "a deploy", "ada")
    assert [step.label for step in run.steps] == ["testapp.0001_a"]
    assert Keeper.kept is not None
    permit, launched = Keeper.kept
    assert launched == run
    assert permit.plan.fingerprint == run.fingerprint


REFUSALS = [
    ({"fingerprint": ""}, FingerprintRequired),
    ({"fingerprint": "nonsense"}, InvalidRequest),
    ({"fingerprint": "a-b-c"}, StaleCode),
    ({"build": "another"}, StaleCode),
    ({"targets": ()}, PlanChanged),
    ({"database": "nowhere"}, UnknownDatabase),
    ({"mode": Mode.FAKE}, PlanChanged),
]


@pytest.mark.parametrize(("changes", "error"), REFUSALS, ids=str)
def test_what_is_refused_leaves_no_run(changes, error):
    """Nothing is started, and no row blocks another run."""
    with pytest.raises(error):
        apply(request(**changes), an_actor())
    assert Keeper.kept is None
    assert list_runs(database=None, before=None, limit=5) == []


def test_another_plan_of_this_build_is_a_changed_plan():
    """The plan that was read no longer exists."""
    code, place, _ = plan_to("testapp").fingerprint.split("-")
    read = f"{code}-{place}-{'0' * 64}"
    with pytest.raises(PlanChanged) as refused:
        apply(request(fingerprint=read), an_actor())
    assert refused.value.facts["fingerprint"] == plan_to("testapp").fingerprint
    assert last_entry() == ("refused", "plan_changed", "ada")


@pytest.mark.parametrize(
    ("actor", "error", "action"),
    [
        (an_actor(Scope.PLAN), Forbidden, Action.DENIED),
        (an_actor(databases=frozenset({"other"})), Forbidden, Action.DENIED),
        (Actor(kind=ActorKind.ANONYMOUS), Unauthenticated, Action.DENIED),
    ],
)
def test_who_may_not_is_turned_away_on_record(actor, error, action):
    """A denial is an entry of the ledger."""
    with pytest.raises(error):
        apply(request(), actor)
    assert last_entry()[0] == action


def test_what_strangers_repeat_is_logged_and_counted(monkeypatch, caplog):
    """The ledger has one entry of it a minute, the log has each; a denial with a name is
    always an entry."""
    clock = iter([0.0, 1.0, 2.0, WINDOW]).__next__
    monkeypatch.setattr(audit, "anonymous_denials", AnonymousDenialThrottle(clock))
    caplog.set_level("INFO", "migration_route.ledger")

    for actor in [Actor(kind=ActorKind.ANONYMOUS, address="10.0.0.1")] * 4:
        with pytest.raises(Unauthenticated):
            apply(request(), actor)
    for _ in range(3):
        with pytest.raises(Forbidden):
            apply(request(), an_actor(Scope.PLAN))

    entries = list_entries(before=None, limit=20)
    assert [(e.actor_name, e.facts.get("left_out")) for e in entries] == [
        *[("ada", None)] * 3,
        ("", 2),
        ("", 0),
    ]
    assert len([line for line in caplog.messages if line.startswith("denied ")]) == 7


def test_faking_needs_its_own_right():
    """The right to apply does not include faking."""
    faked = request(
        mode=Mode.FAKE, fingerprint=plan_to("testapp", mode=Mode.FAKE).fingerprint
    )
    with pytest.raises(Forbidden) as refused:
        apply(faked, an_actor(Scope.APPLY))
    assert refused.value.facts["needs"] == "fake"
    apply(faked, an_actor(Scope.APPLY, Scope.FAKE))


def test_a_second_run_is_refused_while_the_first_is_active():
    """The error names the run that owns the database."""
    run = begin("testapp")
    with pytest.raises(ActiveRun) as refused:
        begin("testapp")
    assert refused.value.facts["run"] == run.id


def test_of_several_at_once_one_is_launched():
    """Five requests for the same plan: one run."""
    wanted = request()
    found = at_once(5, lambda _: apply(wanted, an_actor()))
    assert sum(isinstance(answer, ActiveRun) for answer in found) == 4, found
    assert len(list_runs(database=None, before=None, limit=9)) == 1


def test_the_same_request_with_its_key_is_launched_once():
    """Also after the run has ended, when the plan would be another one."""
    wanted = request(idempotency_key="k1")
    run = apply(wanted, an_actor())
    Keeper.kept = None
    assert apply(wanted, an_actor()) == run
    cancel(run.id, an_actor(), reason="")
    again = apply(wanted, an_actor())
    assert (again.id, again.state) == (run.id, RunState.CANCELLED)
    assert Keeper.kept is None
    with pytest.raises(IdempotencyMismatch):
        apply(request(idempotency_key="k1", reason="another"), an_actor())


def test_the_key_of_one_actor_is_not_anothers():
    """A key never returns the run of another actor."""
    run = apply(request(idempotency_key="k1"), an_actor())
    cancel(run.id, an_actor(), reason="")
    other = apply(request(idempotency_key="k1"), an_actor(name="grace"))
    assert other.id != run.id


def test_a_process_that_cannot_be_started_is_a_failed_run(settings, monkeypatch):
    """The run does not stay queued, and the database is released."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "process"}
    monkeypatch.setattr(
        "migration_route.core.subprocesses.interpreter", lambda: "/no/python"
    )
    with pytest.raises(LaunchFailed):
        begin("testapp")
    (run,) = list_runs(database=None, before=None, limit=5)
    assert (run.state, run.outcome) == (RunState.FAILED, "launch_failed")
    runs.refuse_while_active("default")


def test_a_launcher_that_cannot_be_found_is_no_run_that_stays(settings):
    """A typing error in the settings must not block the database."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "no.such.Launcher"}
    with pytest.raises((LaunchFailed, Misconfigured)):
        begin("testapp")
    assert all(not run.is_active for run in list_runs(database=None, before=None, limit=5))


def test_nothing_runs_past_a_guard_that_cannot_be_read(settings):
    """An invalid freeze refuses the run, and the error names it."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "FREEZES": [{"form": "now"}]}
    with pytest.raises(Misconfigured, match=r"FREEZES\[0\].*form"):
        begin("testapp")
    assert list_runs(database=None, before=None, limit=9) == []


def test_a_ledger_that_is_busy_is_unavailable_not_broken():
    """A migration of another database's run holds the file of the ledger."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has one writer")
    wanted = request()
    with written_by_another(), pytest.raises(DatabaseUnavailable):
        apply(wanted, an_actor())
    assert list_runs(database=None, before=None, limit=5) == []


def test_a_database_in_memory_is_refused():
    """The process of a run could not access it."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite can live in memory")
    usual = connections["other"]
    private = usual.copy()
    private.settings_dict = {**private.settings_dict, "NAME": ":memory:"}
    connections["other"] = private
    try:
        with pytest.raises(Misconfigured, match="memory"):
            apply(request(database="other"), an_actor())
    finally:
        connections["other"] = usual


def test_an_empty_database_gets_its_ledger_with_the_first_run(empty_database):
    """The very first run is recorded; a refused one creates no table."""
    read = ApplyRequest(database=empty_database, targets=("testapp",), fingerprint="a-b-c")
    with pytest.raises(StaleCode):
        apply(read, an_actor())
    assert tables(empty_database) == set()
    wanted = PlanRequest(database=empty_database, targets=("testapp",))
    fingerprint = plain_plan(wanted).fingerprint
    run = apply(
        ApplyRequest(
            database=empty_database, targets=("testapp",), fingerprint=fingerprint
        ),
        an_actor(),
    )
    assert run.state is RunState.QUEUED
    assert plain_plan(wanted).fingerprint == fingerprint  # its own tables do not count
    assert list_entries(before=None, limit=5)[0].action == Action.RUN_REQUESTED
