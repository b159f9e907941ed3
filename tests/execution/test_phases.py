"""Tests that a run of one phase executes exactly its steps, and defers the others."""

from __future__ import annotations

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Direction, Mode, Phase, Resolution, RunState
from migration_route.core.errors import PlanChanged, Refused
from migration_route.execution.messages import WorkOrder
from migration_route.execution.worker.plan_guard import PlanGuard, PlanMismatch
from migration_route.ledger.queries import find_run, first_deferrals, list_entries
from migration_route.planning.plan import PlanRequest
from migration_route.services import apply as applying
from migration_route.services import runs as readiness
from migration_route.services.plans import plain_plan
from migration_route.services.resolve import resolve
from migration_route.services.runs import status
from tests.execution.test_resuming import DIE_ONCE
from tests.factories import an_actor, create_model, tables
from tests.planning.test_phases import NOTE, REMOVE, add, names

BEFORE, AFTER = Phase.BEFORE_DEPLOY, Phase.AFTER_DEPLOY


@pytest.fixture(autouse=True)
def _inline(project, settings):
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": "inline",
        "READY_DATABASES": ["default"],
    }
    project()


def carried(phase: Phase | None, *targets: str):
    """Run one phase, and return the ended run."""
    plan = plain_plan(PlanRequest(phase=phase, targets=targets))
    request = applying.ApplyRequest(
        phase=phase, targets=targets, fingerprint=plan.fingerprint
    )
    return find_run(applying.apply(request, an_actor()).id)


def add_made(name: str) -> str:
    """Return the operation that adds a column to this history's table."""
    return add(name).replace("item", "made")


@pytest.fixture
def shop(history):
    """Return a history whose first migration is already applied by a run."""
    history.write("0001_made", create_model("Made", NOTE))
    assert carried(None).state is RunState.SUCCEEDED
    return history


def deployed(shop) -> None:
    """Write a release that adds one column and removes another."""
    shop.write("0002_add", add("size").replace("item", "made"))
    shop.write("0003_remove", REMOVE.replace("item", "made"))


def columns() -> set[str]:
    """Return the columns of the table."""
    connection = connections["default"]
    with connection.cursor() as cursor:
        described = connection.introspection.get_table_description(cursor, "testapp_made")
    return {column.name for column in described}


@pytest.mark.slow
def test_each_phase_is_a_run_of_its_own(shop):
    """The first defers the second, and records that in its row and on the ledger."""
    deployed(shop)
    assert not readiness.ready()
    run = carried(BEFORE)
    assert (run.state, run.phase) == (RunState.SUCCEEDED, BEFORE), run.error
    assert names(run) == (["0002_add"], ["0003_remove"])
    assert columns() == {"id", "note", "size"}
    assert readiness.ready()
    asked = next(
        one for one in list_entries(before=None, limit=9) if one.action == "run_requested"
    )
    assert [left[1] for left in asked.facts["deferred"]] == ["0003_remove"]
    standing = next(one for one in status(an_actor()) if one.database == "default")
    assert (standing.pending, standing.required) == (("testapp.0003_remove",), ())
    assert standing.later[0].since == run.finished_at
    run = carried(AFTER)
    assert (run.state, names(run)) == (RunState.SUCCEEDED, (["0003_remove"], []))
    assert columns() == {"id", "size"}


@pytest.mark.slow
def test_a_phase_that_stopped_midway_goes_on_with_the_rest_of_that_phase(shop, tmp_path):
    """It resumes after what is present; the phase's later steps follow, and its deferred
    steps stay deferred."""
    work = "migrations.RunPython(work, work, atomic=True)"
    shop.write(
        "0002_add",
        *(add_made("size"), work, add_made("weight")),
        head=DIE_ONCE.format(flag=str(tmp_path / "died")),
        body="atomic = False",
    )
    shop.write("0003_more", add_made("more"))
    shop.write("0004_remove", REMOVE.replace("item", "made"))
    stopped = carried(BEFORE)
    assert (stopped.state, stopped.phase) == (RunState.PARTIAL, BEFORE), stopped.error
    assert columns() == {"id", "note", "size"}
    run = find_run(
        resolve(stopped.id, an_actor(), reason="go on", how=Resolution.CONTINUE).id
    )
    assert (run.state, run.phase) == (RunState.SUCCEEDED, BEFORE), run.error
    assert names(run) == (["0002_add", "0003_more"], ["0004_remove"])
    assert [step.done_operations for step in run.steps] == [1, None]
    assert columns() == {"id", "note", "size", "weight", "more"}
    assert find_run(stopped.id).outcome == "resumed"
    assert readiness.ready()
    assert carried(AFTER).state is RunState.SUCCEEDED
    assert columns() == {"id", "size", "weight", "more"}


@pytest.mark.slow
def test_a_phase_with_nothing_to_do_defers_all_the_same(shop):
    """Django's plan is narrowed to nothing; the deferred steps get a date."""
    shop.write("0002_remove", REMOVE.replace("item", "made"))
    run = carried(BEFORE)
    assert (run.state, names(run)) == (RunState.NOOP, ([], ["0002_remove"])), run.error
    found = first_deferrals("default")["testapp.0002_remove"]
    assert found == (run.finished_at, run.deferred[0].build)
    carried(BEFORE)
    assert first_deferrals("default")["testapp.0002_remove"] == found
    assert columns() == {"id", "note"}


@pytest.mark.slow
def test_what_was_carried_out_and_taken_back_is_deferred_anew(shop):
    """The date of the first time does not apply to the second."""
    shop.write("0002_remove", REMOVE.replace("item", "made"))
    carried(BEFORE)
    carried(AFTER)
    carried(None, "testapp.0001_made")
    assert first_deferrals("default") == {}
    again = carried(BEFORE)
    assert first_deferrals("default")["testapp.0002_remove"][0] == again.finished_at


@pytest.mark.slow
def test_on_the_way_back_each_phase_is_carried_out(shop):
    """First the additions, then the removals; the executor gets the narrowed plan."""
    deployed(shop)
    carried(None)
    target = "testapp.0001_made"
    assert carried(BEFORE, target).outcome == "reverted"
    assert columns() == {"id", "note", "size"}
    assert carried(AFTER, target).outcome == "reverted"
    assert columns() == {"id", "note"}


def test_a_phase_that_is_not_at_its_turn_is_refused(shop):
    """No run is recorded."""
    deployed(shop)
    with pytest.raises(Refused, match="still pending"):
        carried(AFTER)


def test_the_fingerprint_of_one_phase_does_not_open_another(shop):
    """Only the plan that was read is executed."""
    deployed(shop)
    plan = plain_plan(PlanRequest(phase=BEFORE))
    with pytest.raises(PlanChanged):
        applying.apply(applying.ApplyRequest(fingerprint=plan.fingerprint), an_actor())


def order_of(plan, **changes) -> WorkOrder:
    """Return the order of a plan."""
    words = {
        "run": "0" * 32,
        "database": "default",
        "direction": Direction.FORWARDS,
        "mode": Mode.APPLY,
        "targets": plan.targets,
        "fingerprint": plan.fingerprint,
        "steps": tuple((step.app, step.name, step.digest) for step in plan.steps),
        "phase": plan.phase or "",
        "left_out": tuple((left.app, left.name, left.digest) for left in plan.deferred),
    }
    return WorkOrder(**{**words, **changes})


def as_listed(alias, plan):
    """Return the plan unchanged: the steps of one app depend on each other."""
    del alias
    return list(plan)


def djangos_plan():
    """Return what Django's executor would execute."""
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connections["default"])
    return executor.migration_plan(executor.loader.graph.leaf_nodes())


def test_djangos_plan_is_narrowed_in_place(shop):
    """To the permitted steps, in the same list that the executor uses."""
    deployed(shop)
    plan = djangos_plan()
    held = plan
    order = order_of(plain_plan(PlanRequest(phase=BEFORE)))
    PlanGuard(order, as_listed).check_plan(plan)
    assert [migration.name for migration, _ in held] == ["0002_add"]


def test_what_is_neither_permitted_nor_left_out_stops_the_run(shop):
    """A migration added since the plan was read, in either part."""
    deployed(shop)
    order = order_of(plain_plan(PlanRequest(phase=BEFORE)))
    shop.write("0004_more", add("more").replace("item", "made"))
    with pytest.raises(PlanMismatch):
        PlanGuard(order, as_listed).check_plan(djangos_plan())


def test_what_is_to_be_left_out_must_be_there(shop):
    """And have the same source as when the plan was read."""
    deployed(shop)
    plan = plain_plan(PlanRequest(phase=BEFORE))
    MigrationRecorder(connections["default"]).record_applied("testapp", "0003_remove")
    with pytest.raises(PlanMismatch):
        PlanGuard(order_of(plan), as_listed).check_plan(djangos_plan())


def test_an_edited_deferred_migration_stops_the_run(shop):
    """It may do something else than the deferred one."""
    shop.write("0002_add", add("size").replace("item", "made"))
    path = shop.write("0003_remove", REMOVE.replace("item", "made"))
    plan = plain_plan(PlanRequest(phase=BEFORE))
    path.write_text(path.read_text() + "# another\n")
    with pytest.raises(PlanMismatch):
        PlanGuard(order_of(plan), as_listed).check_plan(djangos_plan())


def test_ready_asks_the_recorder_alone(shop, django_assert_max_num_queries):
    """Phases are cached with the graph: later checks neither compute nor query more."""
    deployed(shop)
    assert "testapp_made" in tables()
    assert not readiness.ready()
    with django_assert_max_num_queries(2):
        assert not readiness.ready()
