"""Tests of the findings on direction, atomicity, models and databases."""

from __future__ import annotations

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Direction, Severity
from migration_route.planning.findings import steps
from migration_route.planning.plan import PlanRequest
from migration_route.services.plans import detailed_plan
from tests.factories import a_plan, a_step, create_model

BACK = Direction.BACKWARDS


def codes(found) -> list[tuple[str, str | None]]:
    """Return code and step of the findings."""
    return [(finding.code, finding.step) for finding in found]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (a_plan(), []),
        (a_plan(a_step("a")), []),
        (a_plan(a_step("a", direction=BACK)), [("backwards", None)]),
        (a_plan(a_step("a", reversible=False)), [("one_way", "testapp.a")]),
        (
            a_plan(a_step("a", direction=BACK, reversible=False)),
            [("backwards", None), ("irreversible", "testapp.a")],
        ),
    ],
    ids=["nothing", "forwards", "backwards", "one way", "no way back"],
)
def test_direction(plan, expected):
    """Going back is a warning, an irreversible step backwards blocks, and a one-way step is
    reported in advance."""
    assert codes(steps.direction_findings(plan)) == expected


def test_only_what_cannot_be_undone_blocks():
    """The severities rank the findings."""
    plan = a_plan(a_step("a", direction=BACK, reversible=False))
    assert [finding.severity for finding in steps.direction_findings(plan)] == [
        Severity.WARNING,
        Severity.BLOCKING,
    ]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (a_plan(), []),
        (a_plan(transactional_ddl=False), []),
        (a_plan(a_step("a")), []),
        (
            a_plan(a_step("a"), a_step("b", rolls_back=False)),
            [("not_atomic", "testapp.b")],
        ),
        (a_plan(a_step("a"), transactional_ddl=False), [("ddl_commits", None)]),
        (
            a_plan(a_step("a", rolls_back=False), transactional_ddl=False),
            [("ddl_commits", None)],
        ),
    ],
    ids=["nothing", "nothing, no DDL", "atomic", "not atomic", "no DDL", "neither"],
)
def test_atomicity(plan, expected):
    """A step that can be left half applied is named; a database where all can, once."""
    assert codes(steps.atomicity_findings(plan)) == expected


def of_project(found) -> list[tuple[str, Severity]]:
    """Return code and severity of the findings on the project."""
    known = {"models_changed", "other_database"}
    return [(f.code, f.severity) for f in found if f.code in known]


def test_models_without_a_migration_are_told(history):
    """The model Book has no migration in this history."""
    history.table("0001_a", "made_a")
    found = detailed_plan(PlanRequest(targets=("testapp",))).findings
    assert ("models_changed", Severity.WARNING) in of_project(found)


def test_models_whose_migrations_are_whole_are_not(history):
    history.write(
        "0001_a",
        create_model(
            "Book",
            "('title', models.CharField(max_length=100))",
            "('pages', models.IntegerField(null=True))",
        ).replace(
            "models.BigAutoField(primary_key=True)",
            "models.BigAutoField(auto_created=True, primary_key=True, serialize=False, "
            "verbose_name='ID')",
        ),
    )
    found = detailed_plan(PlanRequest(targets=("testapp",))).findings
    assert ("models_changed", Severity.WARNING) not in of_project(found)


def test_a_database_with_work_of_its_own_is_told(history):
    """This history is pending on the other database as well."""
    history.table("0001_a", "made_a")
    found = detailed_plan(PlanRequest(targets=("testapp",))).findings
    assert ("other_database", Severity.INFO) in of_project(found)
    MigrationRecorder(connections["other"]).record_applied("testapp", "0001_a")
    try:
        again = detailed_plan(PlanRequest(targets=("testapp",))).findings
    finally:
        MigrationRecorder(connections["other"]).record_unapplied("testapp", "0001_a")
    assert ("other_database", Severity.INFO) not in of_project(again)


def test_every_finding_says_what_to_do(history):
    """A finding without a hint is not actionable."""
    history.write("0001_a", "migrations.RunPython(migrations.RunPython.noop)")
    found = detailed_plan(PlanRequest(targets=("testapp",))).findings
    assert found
    assert all(finding.message and finding.hint for finding in found)
