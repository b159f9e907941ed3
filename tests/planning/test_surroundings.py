"""Tests that a finding on an index depends on whether the plan concerns it."""

from __future__ import annotations

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Mode, Severity
from migration_route.planning.findings.environment import _of_index
from migration_route.planning.impact import collect_impact
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.vendors.base import InvalidIndex
from tests.factories import create_model

HEAD = "from django.contrib.postgres.operations import AddIndexConcurrently"
MAKES = "AddIndexConcurrently('book', models.Index(fields=['id'], name='left'))"
ADDS = "migrations.AddIndex('book', models.Index(fields=['id'], name='left'))"
REMOVES = "migrations.RemoveIndex('book', 'left')"
RAW = 'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "left" ON elsewhere (id)'


@pytest.mark.parametrize(
    ("operations", "table", "severity", "step"),
    [
        ((MAKES,), "testapp_book", Severity.BLOCKING, "testapp.0002_next"),
        ((ADDS,), "testapp_book", Severity.BLOCKING, None),
        ((f"migrations.RunSQL({RAW!r})",), "other", Severity.BLOCKING, "testapp.0002_next"),
        (
            (f"migrations.RunSQL([({RAW!r}, [])])",),
            "other",
            Severity.BLOCKING,
            "testapp.0002_next",
        ),
        (("migrations.RunSQL('ANALYZE other')",), "other", Severity.BLOCKING, None),
        (("migrations.RunSQL('ANALYZE another')",), "other", Severity.WARNING, None),
        (
            ("migrations.AddField('book', 'title', models.TextField(default=''))",),
            "testapp_book",
            Severity.BLOCKING,
            None,
        ),
        (("migrations.DeleteModel('book')",), "testapp_book", Severity.BLOCKING, None),
        ((create_model("Shelf"),), "testapp_book", Severity.WARNING, None),
    ],
)
def test_what_a_plan_touches(history, operations, table, severity, step):
    """The index by its name, its table by a model or by a word of raw SQL."""
    history.write("0001_initial", create_model("Book"))
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_initial")
    history.write("0002_next", *operations, head=HEAD, body="atomic = False")
    found = finding(table, "testapp")
    assert (found.severity, found.step) == (severity, step)


def test_what_a_plan_takes_away_is_not_in_its_way(history):
    """A step that removes the index fixes it."""
    history.write("0001_initial", create_model("Book"), ADDS)
    assert finding("testapp_book", "testapp").severity is Severity.BLOCKING
    history.write("0002_away", REMOVES)
    assert finding("testapp_book", "testapp").severity is Severity.WARNING


def test_a_plan_that_only_records_touches_nothing(history):
    """Faking sends no statement to the table."""
    history.write("0001_initial", create_model("Book"), ADDS)
    found = finding("testapp_book", "testapp", mode=Mode.FAKE)
    assert found.severity is Severity.WARNING


def finding(table, *targets, mode=Mode.APPLY):
    """Return the finding on an invalid index `left` of that table."""
    plan, migrations = make_plan(PlanRequest(targets=targets, mode=mode))
    index = InvalidIndex(name="left", table=table, quoted="public.left")
    return _of_index(index, collect_impact(plan, migrations))
