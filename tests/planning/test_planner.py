"""Tests that a plan equals what Django would do, on every database."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Direction, Mode
from migration_route.core.errors import (
    BrokenMigrations,
    ConflictingMigrations,
    InconsistentHistory,
    UnknownDatabase,
)
from migration_route.planning import fresh_process
from migration_route.planning.plan import Details, PlanRequest, same_plan
from migration_route.planning.planner import make_plan
from migration_route.services.plans import detailed_plan, plain_plan
from tests.factories import create_model, vendor
from tests.planning.test_sources import rewrite

TESTAPP = PlanRequest(targets=("testapp",))


def plan_of(*targets: str, **words: Any):
    """Return the plan to these targets."""
    return make_plan(PlanRequest(targets=targets, **words))[0]


def record(*names: str) -> None:
    """Record migrations of testapp as applied."""
    for name in names:
        MigrationRecorder(connections["default"]).record_applied("testapp", name)


@pytest.fixture
def three(history):
    """Return a history of three migrations."""
    for name in ("0001_a", "0002_b", "0003_c"):
        history.table(name, f"made_{name}")
    return history


def test_everything_that_is_pending_is_the_plan(three):
    """In Django's order, forwards."""
    plan = plan_of()
    assert [step.label for step in plan.steps] == [
        "testapp.0001_a",
        "testapp.0002_b",
        "testapp.0003_c",
    ]
    assert (plan.direction, plan.mode, plan.targets) == (
        Direction.FORWARDS,
        Mode.APPLY,
        (),
    )
    assert plan.vendor == vendor()


def test_what_is_applied_is_not_planned(three):
    """An empty plan has no direction."""
    record("0001_a", "0002_b")
    assert [step.name for step in plan_of().steps] == ["0003_c"]
    record("0003_c")
    assert (plan_of().steps, plan_of().direction) == ((), Direction.NONE)


def test_the_way_back_is_planned_in_reverse(three):
    """From the last one to the one after the target."""
    record("0001_a", "0002_b", "0003_c")
    plan = plan_of("testapp.0001_a")
    assert [step.name for step in plan.steps] == ["0003_c", "0002_b"]
    assert plan.direction is Direction.BACKWARDS
    assert [step.name for step in plan_of("testapp.zero").steps][-1] == "0001_a"


def test_planning_writes_nothing(three):
    before = list(MigrationRecorder(connections["default"]).migration_qs.values_list("id"))
    with connections["default"].execute_wrapper(_only_reads):
        plan_of()
        detailed_plan(TESTAPP)
    after = list(MigrationRecorder(connections["default"]).migration_qs.values_list("id"))
    assert before == after


def _only_reads(execute, sql, params, many, context):
    assert sql.split()[0].upper() in {"SELECT", "SHOW", "PRAGMA"}, sql
    return execute(sql, params, many, context)


def test_the_fingerprint_stays_while_nothing_changes(three):
    """Two plans with the same state are equal."""
    assert plan_of().fingerprint == plan_of().fingerprint
    assert plain_plan(PlanRequest()).fingerprint == detailed_plan(PlanRequest()).fingerprint


def test_the_fingerprint_changes_with_what_is_applied(three):
    """Also where the steps stay the same: they would start from another state."""
    before = plan_of("testapp.0001_a").fingerprint
    MigrationRecorder(connections["default"]).record_applied("elsewhere", "0001")
    try:
        assert not same_plan(before, plan_of("testapp.0001_a").fingerprint)
    finally:
        MigrationRecorder(connections["default"]).record_unapplied("elsewhere", "0001")
    assert same_plan(before, plan_of("testapp.0001_a").fingerprint)


def test_another_database_has_a_plan_of_its_own(three):
    """Another alias, other records, another fingerprint; the ledger is not there."""
    plan = make_plan(PlanRequest(database="other", targets=("testapp",)))[0]
    assert plan.database == "other"
    assert not same_plan(plan.fingerprint, plan_of("testapp").fingerprint)


def test_where_the_ledger_is_not_its_app_is_like_any_other(three):
    """There the app's own migrations are steps; on the ledger's database they are not."""
    MigrationRecorder(connections["other"]).record_unapplied(
        "migration_route", "0001_initial"
    )
    MigrationRecorder(connections["default"]).record_unapplied(
        "migration_route", "0001_initial"
    )
    try:
        here, there = plan_of(), plan_of(database="other")
    finally:
        for alias in ("default", "other"):
            MigrationRecorder(connections[alias]).record_applied(
                "migration_route", "0001_initial"
            )
    assert "migration_route" not in {step.app for step in here.steps}
    assert "migration_route" in {step.app for step in there.steps}


def test_the_ledgers_own_migrations_do_not_change_a_plan(three):
    """The first write applies them, between the planning and the run."""
    before = plan_of().fingerprint
    recorder = MigrationRecorder(connections["default"])
    recorder.record_unapplied("migration_route", "0001_initial")
    try:
        assert plan_of().fingerprint == before
    finally:
        recorder.record_applied("migration_route", "0001_initial")


@pytest.mark.parametrize("mode", Mode)
def test_each_mode_is_a_plan_of_its_own(three, mode):
    others = {plan_of(mode=other).fingerprint for other in Mode if other is not mode}
    assert plan_of(mode=mode).fingerprint not in others


def test_a_database_that_is_not_there_is_unknown(database):
    """Before anything else is checked."""
    with pytest.raises(UnknownDatabase):
        make_plan(PlanRequest(database="nowhere"))


def test_what_migrate_refuses_is_refused(three):
    """Two leaf nodes, or a gap in the applied migrations."""
    record("0002_b")
    with pytest.raises(InconsistentHistory):
        plan_of()
    MigrationRecorder(connections["default"]).record_unapplied("testapp", "0002_b")
    three.table("0003_d", "made_d", after="0002_b")
    for _ in range(2):
        with pytest.raises(ConflictingMigrations):
            plan_of()


@pytest.mark.parametrize(
    ("operations", "body", "on_server", "without"),
    [
        ([create_model("A")], "", True, False),
        ([create_model("A")], "atomic = False", False, False),
        (["migrations.RunPython(migrations.RunPython.noop)"], "", True, True),
        (
            ["migrations.RunPython(migrations.RunPython.noop)"],
            "atomic = False",
            False,
            False,
        ),
        (
            ["migrations.RunPython(migrations.RunPython.noop, atomic=True)"],
            "atomic = False",
            False,
            True,
        ),
        (
            ["migrations.RunPython(migrations.RunPython.noop, atomic=False)"],
            "",
            True,
            False,
        ),
        (
            ["migrations.RunPython(migrations.RunPython.noop)", create_model("A")],
            "",
            True,
            False,
        ),
    ],
)
def test_what_the_database_rolls_back_as_a_whole(
    history, operations, body, on_server, without
):
    """With transactional DDL the whole migration; without, one data operation."""
    history.write("0001_a", *operations, body=body)
    expected = without if vendor() == "mysql" else on_server
    assert plan_of("testapp").steps[0].rolls_back is expected


def test_a_step_says_what_it_is(history):
    """Operations, atomicity, reversibility, and what a squashed one replaces."""
    history.write(
        "0001_squashed",
        create_model("A"),
        "migrations.RunPython(migrations.RunPython.noop)",
        body="atomic = False\n"
        "    replaces = [('testapp', '0001_x'), ('testapp', '0002_y')]",
    )
    (step,) = plan_of("testapp").steps
    assert (step.atomic, step.reversible) == (False, False)
    assert step.replaces == ("testapp.0001_x", "testapp.0002_y")
    assert [operation.opaque for operation in step.operations] == [False, True]
    assert step.operations[0].description == "Create model A"


# --- files that are newer than this process -------------------------------------------


def test_a_process_with_old_code_asks_a_new_one(three):
    """The plan is that of the files, not that of the loaded modules."""
    plan_of()
    path = three.folder / "0002_b.py"
    rewrite(path, "CREATE TABLE made_0002_b", "CREATE TABLE another")
    found, migrations = make_plan(TESTAPP)
    assert fresh_process.is_needed(migrations)
    plan = detailed_plan(TESTAPP)
    assert same_plan(plan.fingerprint, found.fingerprint)
    (operation, *_) = plan.steps[1].operations
    assert operation.sql is not None
    assert "another" in operation.sql[0]


def test_what_a_new_process_has_read_is_kept_while_nothing_changes(three, monkeypatch):
    """Applying a plan requests the plan that was read; a change requests it again."""
    started = []

    def started_process(arguments, **words):
        started.append(arguments)
        return run(arguments, **words)

    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", started_process)
    read = fresh_process.plan_in_new_process(TESTAPP, Details())
    assert fresh_process.plan_in_new_process(TESTAPP, None) is read
    assert len(started) == 1

    rewrite(three.folder / "0002_b.py", "made_0002_b", "another")
    edited = fresh_process.plan_in_new_process(TESTAPP, None)
    assert not same_plan(edited.fingerprint, read.fingerprint)
    assert fresh_process.plan_in_new_process(TESTAPP, Details()).steps[0].operations[0].sql
    assert len(started) == 3

    monkeypatch.setattr(fresh_process, "_LIFETIME", -1.0)
    record("0001_a")
    (step, _) = fresh_process.plan_in_new_process(TESTAPP, Details()).steps
    assert step.name == "0002_b"
    assert len(started) == 4

    fresh_process.plan_in_new_process(TESTAPP, Details())
    assert len(started) == 5


def test_a_setting_that_prints_does_not_spoil_the_answer(three, monkeypatch, tmp_path):
    """Some projects print something when they start."""
    (tmp_path / "talkative.py").write_text(
        "from tests.execution.process_settings import *\nprint('hello from the settings')\n"
    )
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "talkative")
    plan = fresh_process.plan_in_new_process(TESTAPP, None)
    assert [step.name for step in plan.steps] == ["0001_a", "0002_b", "0003_c"]


def test_code_on_disk_that_is_broken_is_told(three):
    """The output of the new process is the message."""
    plan_of()
    rewrite(three.folder / "0002_b.py", "class Migration", "class Migration(")
    with pytest.raises(BrokenMigrations, match="cannot be planned"):
        plain_plan(TESTAPP)
