"""Tests that threads which plan at once get the states of Django, each its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, models
from django.db.migrations import Migration, RenameField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from migration_route.planning import graph as graphs
from migration_route.planning import sql, states
from migration_route.planning.phases import in_dependency_order
from migration_route.planning.plan import Details, PlanRequest
from migration_route.planning.planner import make_plan
from tests.factories import create_model
from tests.planning.parity import APP, create, foreign, migrations_of, text

if TYPE_CHECKING:
    from tests.factories import History

pytestmark = pytest.mark.usefixtures("database")

THREADS, ROUNDS = 6, 12
ALL = Details(budget=600.0)


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    """Let threads alternate after few instructions."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Return what the threads return, which start together; raise what one raises."""
    start = Barrier(THREADS)

    def run(number: int) -> Any:
        start.wait(timeout=60)
        try:
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


class InPlace(Operation):
    """Changes fields and options in place."""

    reduces_to_sql = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        for model in state.models.values():
            model.options["indexes"].append(models.Index(fields=["id"], name="in_place"))
            for field in model.fields.values():
                field.null = True
                field.db_column = "in_place"


def described(state: ProjectState) -> dict[tuple[str, str], Any]:
    """Return all that a state contains, as values."""

    def options(model: ModelState) -> dict[str, str]:
        return {
            name: str([each.deconstruct() for each in value])
            if name in {"constraints", "indexes"}
            else str(value)
            for name, value in model.options.items()
        }

    return {
        key: (
            {name: str(field.deconstruct()[1:]) for name, field in model.fields.items()},
            options(model),
            str(model.bases),
            [name for name, _ in model.managers],
        )
        for key, model in state.models.items()
    }


def columns(state: ProjectState) -> dict[str, list[str | None]]:
    """Return the columns of the rendered models, in their order."""
    return {
        model._meta.label: [field.column for field in model._meta.local_concrete_fields]
        for model in state.apps.get_models()
    }


def change(state: ProjectState) -> None:
    """Change a state in every way that leaves another one as it is."""
    (app, name), model = next(iter(state.models.items()))
    state.rename_field(app, name, next(iter(model.fields)), "renamed")
    states.advance(InPlace(), app, state)
    state.add_field(app, name, "added", models.IntegerField(null=True), True)
    state.rename_model(app, name, "Renamed")
    state.remove_model(app, "renamed")


def referring() -> list[Migration]:
    """Return migrations in which a field is renamed that another one refers to."""
    code = models.CharField(max_length=9, unique=True)
    return migrations_of(
        [
            [
                create("A", ("code", code)),
                create("B", ("a", foreign("A", to_field="code"))),
            ],
            [create("C", ("b", foreign("B")), ("name", text()))],
            [RenameField("A", "code", "label")],
            [RenameField("C", "name", "title")],
        ]
    )


def test_each_thread_gets_the_state_of_django_and_its_own():
    """Of equal and of different sets of migrations: more than are kept."""
    loader = graphs.read_graph("default").loader
    order = [loader.graph.nodes[key] for key in in_dependency_order(loader)]
    real, own = order[: len(order) // 2 * 2], referring()
    sets = [real[: len(real) - cut] for cut in range(4)]
    sets += [own[:length] for length in range(2, len(own) + 1)]
    expected = []
    for length, history in enumerate(sets):
        fresh = referring()[: len(history)] if history[0].app_label == APP else history
        state = ProjectState()
        for migration in fresh:
            migration.mutate_state(state, preserve=False)
        expected.append((length, described(state), columns(state)))

    def work(number: int) -> None:
        for turn in range(ROUNDS):
            # Pairs of threads ask for the same set.
            index, contents, tables = expected[(number // 2 + turn) % len(sets)]
            state = states.state_after(sets[index], set())
            assert described(state) == contents
            assert columns(state) == tables
            change(state)
            again = states.state_after(sets[index], set())
            assert described(again) == contents
            assert again.apps is not state.apps

    at_once(work)


def test_threads_plan_at_once(history: History):
    """Each plan has the SQL that it has alone, forwards and backwards."""
    history.write(
        "0001_models",
        create_model("A", "('code', models.CharField(max_length=9, unique=True))"),
        create_model(
            "B", "('a', models.ForeignKey('testapp.A', models.CASCADE, to_field='code'))"
        ),
    )
    history.write("0002_renamed", "migrations.RenameField('A', 'code', 'label')")
    history.write(
        "0003_more", "migrations.AddField('B', 'size', models.IntegerField(null=True))"
    )
    targets = [("testapp.0001_models",), ("testapp.0002_renamed",), ("testapp",), ()]

    def planned(number: int) -> list[Any]:
        found = []
        for turn in range(4):
            request = PlanRequest(
                database="default", targets=targets[(number // 2 + turn) % len(targets)]
            )
            plan, migrations = make_plan(request)
            steps, _ = sql.with_sql(
                plan.steps, migrations, plan.database, Details(budget=60)
            )
            found.append((request.targets, plan.fingerprint, steps))
        return found

    alone = {targets: about for targets, *about in planned(0)}
    assert len(alone) == len(targets)
    assert all(
        operation.sql
        for _, steps in alone.values()
        for step in steps
        for operation in step.operations
        if step.app == "testapp"
    )
    for found in at_once(planned):
        assert {targets: about for targets, *about in found} == alone
