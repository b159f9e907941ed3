"""Tests of which tables and indexes a step concerns."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from migration_route.core.values import NO_IMPACT, Impact
from migration_route.planning.impact import impact_of_step, most_in_one_step, most_rewrites

AUTHOR = ModelState("library", "Author", [("id", models.AutoField(primary_key=True))])
BOOK = ModelState(
    "library",
    "Book",
    [("id", models.AutoField(primary_key=True)), ("title", models.TextField())],
    options={"db_table": "books"},
)


def touched(*operations, backwards=False):
    """Return what a migration with these operations touches, in a project of two models."""
    state = ProjectState()
    for model in (AUTHOR, BOOK):
        state.add_model(model.clone())
    before = {key: set(model.fields) for key, model in state.models.items()}
    migration: Any = migrations.Migration("0002_next", "library")
    migration.operations = list(operations)
    found = impact_of_step(migration, state, backwards=backwards)
    assert {key: set(model.fields) for key, model in state.models.items()} == before
    return found


COLUMN = migrations.AddField("book", "pages", models.IntegerField(null=True))
KEY = migrations.AddField(
    "book", "author", models.ForeignKey("library.Author", models.CASCADE, null=True)
)
INDEX = migrations.AddIndex("book", models.Index(fields=["title"], name="by_title"))
NEW = migrations.CreateModel(
    "Shelf",
    [
        ("id", models.AutoField(primary_key=True)),
        ("first", models.ForeignKey("Book", models.CASCADE)),
    ],
)
RAW = migrations.RunSQL("CREATE INDEX CONCURRENTLY by_pages ON books (pages)", "")


@pytest.mark.parametrize(
    ("operation", "tables", "parents"),
    [
        (COLUMN, {"books"}, set()),
        (KEY, {"books"}, {"library_author"}),
        (NEW, set(), {"books"}),
        (migrations.RenameModel("Author", "Writer"), {"library_author"}, set()),
        (migrations.DeleteModel("Author"), {"library_author"}, set()),
        (
            migrations.SeparateDatabaseAndState(
                database_operations=[COLUMN],
                state_operations=[migrations.DeleteModel("Author")],
            ),
            {"books"},
            set(),
        ),
        (migrations.RunPython(migrations.RunPython.noop), set(), set()),
    ],
)
def test_a_step_touches_the_tables_that_its_operations_name(operation, tables, parents):
    """Only existing tables; other sessions do not use one that it creates."""
    found = touched(operation)
    assert (found.tables, found.parents) == (tables, parents)
    assert found.rewritten is None


WIDER = migrations.AlterField("book", "title", models.CharField(max_length=9))
NUMBER = migrations.AlterField("author", "id", models.BigAutoField(primary_key=True))
UNIQUE = migrations.AlterField("book", "title", models.CharField(max_length=9, unique=True))
PYTHON = migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)


class Vacuum(Operation):
    """An operation of a third-party package."""


@pytest.mark.parametrize(
    ("operations", "most"),
    [
        ([COLUMN], 1),
        ([COLUMN, WIDER, INDEX], 3),
        ([NEW, PYTHON], 0),
        ([PYTHON, COLUMN], 1),
        ([RAW], 1),
        ([migrations.RunSQL(["SELECT 1", ("SELECT 2; SELECT 3", None)], "")], 3),
        ([migrations.SeparateDatabaseAndState([WIDER, WIDER], [NUMBER])], 2),
        ([NUMBER], None),  # the columns that refer to it change as well
        ([UNIQUE], None),
        ([migrations.RenameModel("Author", "Writer")], None),
        ([Vacuum(), COLUMN], None),
    ],
)
def test_a_step_says_how_often_at_most_it_rewrites_what_it_touches(operations, most):
    """Or that it is unknown: other tables may change with those that it names."""
    assert touched(*operations).most_rewrites == most


def test_what_is_not_in_one_transaction_gives_back_its_room_each_time():
    """One copy at a time, then."""
    migration: Any = migrations.Migration("0002_next", "library")
    migration.operations, migration.atomic = [COLUMN, WIDER, INDEX], False
    assert most_rewrites(migration, (), backwards=False) == 1
    assert most_in_one_step([1, 3, 0]) == 3
    assert most_in_one_step([1, None, 0]) is None
    assert most_in_one_step([]) == 0


def test_backwards_it_touches_what_it_takes_away():
    """The table that the step has created exists then, and may be in use."""
    found = touched(NEW, backwards=True)
    assert found.tables == {"library_shelf"}


def test_an_index_that_is_made_concurrently_waits_for_all():
    """While it is being built it is invalid, as expected."""
    found = touched(RAW)
    assert found.waits_for_all
    assert "by_pages" in found.expected_invalid
    assert "books" in found.tables
    plain = touched(INDEX)
    assert not plain.waits_for_all
    assert plain.indexes == {"by_title"}
    assert not plain.expected_invalid


def test_what_is_touched_goes_from_process_to_process_as_it_is():
    """The supervisor reads what the worker reports."""
    foretold = Impact(rewritten=("books", "books"), unforecast=True)
    for found in (touched(KEY, RAW, INDEX), foretold, NO_IMPACT):
        assert Impact.from_dict(found.to_dict()) == found
    assert Impact.from_dict({}) == Impact()
