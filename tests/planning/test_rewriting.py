"""Tests of which tables a step rewrites on the current database."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.values import Forecast, TableSize
from migration_route.planning import graph as graphs
from migration_route.planning.impact import forecast_rewrites, rewritten_by, rewritten_in
from migration_route.planning.plan import Operation, PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.planning.sql import state_before
from migration_route.services.plans import detailed_plan
from tests.factories import a_plan, a_step, vendor

BOOK = "testapp_book"
# A shorter text: rewritten by PostgreSQL and SQLite, copied by MariaDB.
SHORTER = "migrations.AlterField('Book', 'title', models.CharField(max_length={}))"
PYTHON = "migrations.RunPython(migrations.RunPython.noop)"
ASIDE = "migrations.RunSQL('DO $$ BEGIN PERFORM 1; END $$')"


def foreseen():
    """Return what the worker would report of the first step of the plan."""
    _, migrations = make_plan(PlanRequest(targets=("testapp",)))
    (migration, backwards) = migrations[0]
    graph = graphs.read_graph_of("default", [migration])
    state = state_before(graph, migrations)
    keys = {key: set(model.fields) for key, model in state.models.items()}
    found = forecast_rewrites(migration, state, "default", backwards=backwards)
    assert {key: set(model.fields) for key, model in state.models.items()} == keys
    return found


@pytest.fixture
def book(history):
    """Return the table of the tests, as in this history."""
    history.write("0001_initial", BOOK_TABLE)
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_initial")
    return history


BOOK_TABLE = (
    "migrations.CreateModel('Book', [('id', models.BigAutoField(primary_key=True)), "
    "('title', models.CharField(max_length=100))])"
)


def test_the_step_that_begins_says_what_it_writes_anew(book):
    """From the current catalog; the effect of Python is reported as not forecast."""
    book.write("0002_a", SHORTER.format(90), PYTHON)
    rewritten, unforecast = foreseen()
    assert set(rewritten) == {BOOK}
    assert unforecast


def test_what_writes_nothing_anew_says_so(book):
    """Other sessions do not use a table that the step creates."""
    book.write("0002_a", BOOK_TABLE.replace("Book", "Shelf"))
    assert foreseen() == ((), False)


def test_two_rewrites_in_one_transaction_are_two(book):
    """Where the database keeps the old rows until the end of the transaction; elsewhere one
    at a time."""
    book.write("0002_a", SHORTER.format(90), SHORTER.format(80))
    rewritten, _ = foreseen()
    count = 1 if vendor() == "mysql" else 2
    assert rewritten == (BOOK,) * count


def test_the_plan_tells_the_step_that_needs_the_most():
    """A step releases its space before the next one starts."""

    def operation(*tables, **changes):
        forecast = Forecast(rewrites=tables, **changes)
        return Operation(description="", opaque=False, sql=("",), forecasts=(forecast,))

    small = a_step("0002_a", operations=(operation("a"), operation("a")))
    large = a_step("0003_b", operations=(operation("b"), operation("a")))
    sizes = tuple(
        TableSize(table=name, rows=None, bytes=size)
        for name, size in (("a", 10), ("b", 100), ("c", None))
    )
    assert rewritten_by(a_plan(small, large, tables=sizes)) == (("b", "a"), False)
    guess = a_step("0004_c", operations=(operation("b", "b", is_understood=False),))
    assert rewritten_in(guess) == ((), True)
    assert rewritten_by(a_plan(small, guess, tables=sizes)) == (("a", "a"), True)
    one_by_one = a_step("0005_d", rolls_back=False, operations=small.operations)
    assert rewritten_in(one_by_one) == (("a",), False)
    assert rewritten_by(a_plan()) == ((), False)


def test_a_plan_that_was_told_gives_the_same(book):
    """From the forecasts that the reader has seen."""
    book.write("0002_a", SHORTER.format(90), ASIDE)
    rewritten, unforecast = rewritten_by(detailed_plan(PlanRequest(targets=("testapp",))))
    assert rewritten is not None
    assert set(rewritten) == {BOOK}
    assert unforecast


def test_a_database_that_does_not_answer_leaves_it_unforeseen(book, monkeypatch):
    """The step starts all the same; this is reported, and pauses no run."""
    book.write("0002_a", SHORTER.format(90))
    _, migrations = make_plan(PlanRequest(targets=("testapp",)))
    graph = graphs.read_graph_of("default", [migrations[0][0]])
    state = state_before(graph, migrations)
    own = connections["default"]
    own.close()
    broken = own.copy()
    if vendor() == "sqlite":
        broken.settings_dict = {**own.settings_dict, "NAME": "/nowhere/at/all.sqlite3"}
    else:
        broken.settings_dict = {**own.settings_dict, "HOST": "127.0.0.1", "PORT": "1"}
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(cast(Any, connections)._connections, "default", broken)
        found = forecast_rewrites(migrations[0][0], state, "default", backwards=False)
    assert found in ((None, True), ((), True))
