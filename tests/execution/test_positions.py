"""Tests that operations are numbered by the migration's source, whatever other packages
insert."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connections

from migration_route.core.enums import Resolution, RunState
from migration_route.core.errors import Refused
from migration_route.ledger.queries import find_run, unresolved_runs
from migration_route.planning.graph import read_recorder
from migration_route.services.control import cancel
from migration_route.services.resolve import resolve
from tests.execution.runs import carried, events
from tests.factories import an_actor, create_model, tables, vendor

pytestmark = pytest.mark.slow

NOT_ATOMIC = "atomic = False"
WARE = create_model(
    "Ware",
    "('name', models.CharField(max_length=20))",
    "('price', models.IntegerField(default=3))",
)
RENAME = "migrations.RenameModel('Ware', 'Good')"
TIMES = "migrations.RunPython(times, by)"
SIZE = "FailsOnce('Good', 'size', models.IntegerField(null=True))"
WIDTH = "migrations.AddField('Ware', 'width', models.IntegerField(null=True))"

HEAD = """
import os
import pathlib

folder = pathlib.Path({folder!r})

def multiplied(apps, schema_editor, change):
    for name in ("Good", "Ware"):
        try:
            model = apps.get_model("testapp", name)
        except LookupError:
            continue
        for row in model.objects.using(schema_editor.connection.alias).all():
            row.price = change(row.price)
            row.save()

def times(apps, schema_editor):
    multiplied(apps, schema_editor, lambda price: price * 100)

def by(apps, schema_editor):
    multiplied(apps, schema_editor, lambda price: price // 100)

def once(name):
    flag = folder / name
    if flag.exists():
        return False
    flag.touch()
    return True

def fail_once(apps, schema_editor):
    if once("fail_once"):
        raise RuntimeError("not this time")

class FailsOnce(migrations.AddField):
    def database_forwards(self, app, editor, *states):
        if not editor.collect_sql and once("forwards"):
            raise RuntimeError("not this time")
        super().database_forwards(app, editor, *states)

class RenameFailsOnce(migrations.RenameModel):
    def database_backwards(self, app, editor, *states):
        if not editor.collect_sql and once("backwards"):
            raise RuntimeError("not this time")
        super().database_backwards(app, editor, *states)
"""
DIES_WHILE_IT_RENAMES_THE_CONTENT_TYPE = """
from django.contrib.contenttypes.management import RenameContentType

usual = RenameContentType._rename
def _rename(self, *args):
    if once("content_type"):
        os.kill(os.getpid(), 9)
    usual(self, *args)
RenameContentType._rename = _rename
"""
ANOTHER_PACKAGE = """
from django.apps import apps as installed
from django.db.models.signals import pre_migrate

def audit(apps, schema_editor):
    with (folder / "audits").open("a") as log:
        log.write("audit\\n")

def change(plan, **_):
    for migration, _ in plan:
        if migration.name == "0002_b":
            {change}

pre_migrate.connect(
    change,
    sender=installed.get_app_config("testapp"),  # else it is called once for each app
    weak=False,
    dispatch_uid="another package " + {folder!r},
)
"""
AUDIT = "migrations.RunPython(audit, audit, atomic=True)"


@pytest.fixture(autouse=True)
def _inline(project, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()


@pytest.fixture(autouse=True)
def _clean(history):
    yield
    for name in ("testapp_ware", "testapp_good"):
        if name in tables():
            with connections["default"].cursor() as cursor:
                cursor.execute(f"DROP TABLE {name}")
    _content_types().delete()


def _content_types():
    from django.contrib.contenttypes.models import ContentType

    return ContentType.objects.filter(app_label="testapp", model__in=["ware", "good"])


@pytest.fixture
def shop(history, tmp_path):
    """Write the migrations of the wares, and insert one ware."""
    history.head = HEAD.format(folder=str(tmp_path))
    history.write("0001_a", WARE)
    assert carried("testapp").state is RunState.SUCCEEDED
    execute("INSERT INTO testapp_ware (name, price) VALUES ('cup', 3)")
    _content_types().delete()
    _content_types().create(app_label="testapp", model="ware")
    return history


def write(shop, *operations, head="", body=NOT_ATOMIC):
    """Write the migration that is to stop midway."""
    return shop.write("0002_b", *operations, head=shop.head + head, body=body)


def another_package(tmp_path, *lines):
    """Return another package's receiver, which changes the migration."""
    change = "\n            ".join(lines)
    return ANOTHER_PACKAGE.format(folder=str(tmp_path), change=change)


def execute(sql):
    with connections["default"].cursor() as cursor:
        cursor.execute(sql)


def price(table="testapp_good"):
    with connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT price FROM {table}")
        return cursor.fetchone()[0]


def states(run):
    """Return what is known of each operation of the step, by its position."""
    step = next(step for step in run.steps if step.operations)
    return {found.position: found.state for found in step.operations}


def resumed(run):
    new = resolve(run.id, an_actor(), reason="go on", how=Resolution.CONTINUE)
    return find_run(new.id)


def recorded():
    return sorted(name for app, name in read_recorder("default") if app == "testapp")


def renamed_content_types():
    return list(_content_types().values_list("model", flat=True))


ATOMIC = pytest.param("", marks=pytest.mark.skipif(vendor() != "mysql", reason="undone"))


@pytest.mark.parametrize("body", [NOT_ATOMIC, ATOMIC])
def test_python_behind_a_renamed_model_runs_once(shop, body):
    """django.contrib.contenttypes inserts an operation without a number."""
    write(shop, RENAME, TIMES, SIZE, body=body)
    run = carried("testapp")
    assert run.state is RunState.PARTIAL
    assert states(run) == {0: "present", 1: "present", 2: "absent"}
    assert run.steps[0].error is not None
    assert run.steps[0].error.operation == 2
    numbers = [e.operation for e in events(run) if e.kind == "operation_started"]
    assert numbers == [0, None, 1, 2]
    ended = resumed(run)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert ended.steps[0].done_operations == 2
    assert price() == 300
    assert renamed_content_types() == ["good"]


def test_an_added_operation_that_has_not_run_runs_when_the_step_is_resumed(shop):
    """The model is already renamed, its content type is not."""
    write(shop, RENAME, TIMES, head=DIES_WHILE_IT_RENAMES_THE_CONTENT_TYPE)
    run = carried("testapp")
    assert states(run) == {0: "present", 1: "absent"}
    assert renamed_content_types() == ["ware"]
    ended = resumed(run)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert (price(), renamed_content_types()) == (300, ["good"])


def test_backwards_the_numbers_are_those_of_the_source_as_well(shop):
    """The inserted operation comes before the one that it was inserted after."""
    rename = "RenameFailsOnce('Ware', 'Good')"
    size = "migrations.AddField('Good', 'size', models.IntegerField(null=True))"
    write(shop, rename, TIMES, size)
    assert carried("testapp").state is RunState.SUCCEEDED
    assert (price(), renamed_content_types()) == (300, ["good"])
    run = carried("testapp.0001_a")
    assert run.state is RunState.PARTIAL
    assert states(run) == {2: "present", 1: "present", 0: "absent"}
    assert run.steps[0].error is not None
    assert run.steps[0].error.operation == 0
    ended = resumed(run)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert price("testapp_ware") == 3
    assert recorded() == ["0001_a"]


def audits(tmp_path: Path) -> int:
    return len((tmp_path / "audits").read_text().splitlines())


def test_what_any_package_adds_runs_once_and_has_no_number(shop, tmp_path):
    """Before the first operation, between two, and after the last."""
    head = another_package(
        tmp_path,
        f"added = [{AUDIT} for _ in range(4)]",
        "migration.operations[:] = [added[0], *migration.operations[:1], added[1], "
        "*migration.operations[1:], added[2], added[3]]",
    )
    write(shop, WIDTH, TIMES, SIZE.replace("Good", "Ware"), head=head)
    run = carried("testapp")
    assert states(run) == {0: "present", 1: "present", 2: "absent"}
    assert audits(tmp_path) == 2
    ended = resumed(run)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert (price("testapp_ware"), audits(tmp_path)) == (300, 4)


def test_a_step_whose_operations_another_package_has_replaced_is_not_resumed(
    shop, tmp_path
):
    """It is unknown which of them were executed."""
    head = another_package(
        tmp_path, "migration.operations[0], migration.operations[1] = (",
        "    migration.operations[1], migration.operations[0])",
    )  # fmt: skip
    write(shop, WIDTH, TIMES, SIZE.replace("Good", "Ware"), head=head)
    run = carried("testapp")
    assert run.state is RunState.PARTIAL
    assert states(run) == {0: "present", 1: "unknown", 2: "absent"}
    with pytest.raises(Refused, match="Another package changed the list"):
        resolve(run.id, an_actor(), reason="go on", how=Resolution.CONTINUE)
    assert price("testapp_ware") == 300


def test_a_package_that_adds_something_else_the_second_time_stops_the_resumed_run(
    shop, tmp_path
):
    """Before any statement; the step stays partial."""
    head = another_package(
        tmp_path, "if (folder / 'more').exists():",
        f"    migration.operations.insert(1, {AUDIT})",
    )  # fmt: skip
    write(shop, WIDTH, TIMES, SIZE.replace("Good", "Ware"), head=head)
    run = carried("testapp")
    (tmp_path / "more").touch()
    ended = resumed(run)
    assert ended.state is RunState.PARTIAL
    assert "cannot be resumed" in ended.error.message
    assert states(ended) == {0: "present", 1: "present", 2: "absent"}
    assert unresolved_runs() == {"default": ended.id}
    (tmp_path / "more").unlink()
    again = resumed(ended)
    assert again.state is RunState.SUCCEEDED, again.error
    assert price("testapp_ware") == 300


def test_an_operation_that_is_listed_twice_runs_twice(shop):
    """The second one is another operation, although it is the same object."""
    head = "\ntwice = migrations.RunPython(times, by, atomic=True)\n"
    fails = "migrations.RunPython(fail_once, fail_once, atomic=True)"
    write(shop, "twice", WIDTH, fails, "twice", head=head)
    run = carried("testapp")
    assert states(run) == {0: "present", 1: "present", 2: "absent", 3: "absent"}
    ended = resumed(run)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert price("testapp_ware") == 30000


def test_an_operation_within_another_one_has_no_number_of_its_own(shop):
    """The same object, as a part and on its own."""
    head = "\ntimes_again = migrations.RunPython(times, by, atomic=True)\n"
    both = "migrations.SeparateDatabaseAndState([times_again])"
    fails = "migrations.RunPython(fail_once, fail_once, atomic=True)"
    write(shop, WIDTH, both, fails, "times_again", head=head)
    run = carried("testapp")
    assert states(run) == {0: "present", 1: "present", 2: "absent", 3: "absent"}
    assert run.steps[0].error is not None
    assert run.steps[0].error.operation == 2
    ended = resumed(run)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert price("testapp_ware") == 30000


def test_a_resumed_run_that_is_cancelled_before_it_begins_leaves_the_step_midway(
    shop, settings, project
):
    """Otherwise a plain run would start the step again, with what is already executed."""
    write(shop, WIDTH, TIMES, SIZE.replace("Good", "Ware"))
    run = carried("testapp")
    usual = settings.MIGRATION_ROUTE
    settings.MIGRATION_ROUTE = {**usual, "LAUNCHER": "tests.execution.runs.Keeper"}
    project()
    waiting = resumed(run)
    assert waiting.state is RunState.QUEUED
    settings.MIGRATION_ROUTE = usual
    project()
    cancelled = cancel(waiting.id, an_actor(), reason="not today")
    assert (cancelled.state, cancelled.outcome) == (RunState.PARTIAL, "cancelled")
    assert states(cancelled) == {0: "present", 1: "present", 2: "absent"}
    assert unresolved_runs() == {"default": cancelled.id}
    with pytest.raises(Refused):
        carried("testapp")
    ended = resumed(cancelled)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert price("testapp_ware") == 300


def test_a_resumed_run_that_was_cancelled_can_be_resolved_as_it_is(shop, settings, project):
    """It does not stay partial forever, and its database is released."""
    write(shop, WIDTH, TIMES, SIZE.replace("Good", "Ware"))
    run = carried("testapp")
    usual = settings.MIGRATION_ROUTE
    settings.MIGRATION_ROUTE = {**usual, "LAUNCHER": "tests.execution.runs.Keeper"}
    project()
    waiting = resumed(run)
    settings.MIGRATION_ROUTE = usual
    project()
    cancelled = cancel(waiting.id, an_actor(), reason="not today")
    resolved = resolve(
        cancelled.id, an_actor(), how=Resolution.AS_IS, reason="done by hand"
    )
    assert resolved.state is RunState.RESOLVED
    assert unresolved_runs() == {}
