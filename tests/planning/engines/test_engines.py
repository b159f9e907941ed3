"""Tests of the findings of other linters, where they are installed."""

from __future__ import annotations

import importlib.util
import logging
import stat
import subprocess

import pytest
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Severity
from migration_route.core.values import CODES
from migration_route.planning import sql
from migration_route.planning.findings import linters
from migration_route.planning.findings.linters import LinterIssue
from migration_route.planning.plan import Details, Operation, PlanRequest
from migration_route.planning.planner import make_plan
from tests.factories import a_plan, a_step, create_model

needs_safe_migrations = pytest.mark.skipif(
    importlib.util.find_spec("django_safe_migrations") is None,
    reason="django-safe-migrations is not installed",
)
needs_squawk = pytest.mark.skipif(
    linters._program() is None, reason="squawk is not installed"
)


def a_result(code: str) -> LinterIssue:
    return LinterIssue(
        code=code, step="testapp.a", operation=0, message="Mind.", hint="Do."
    )


@pytest.fixture
def saying(monkeypatch):
    """Make one engine report these codes, and the others nothing."""

    def say(*codes):
        results = [a_result(code) for code in codes]
        monkeypatch.setattr(linters, "_ENGINES", {"safe": lambda plan, migrations: results})

    return say


def test_what_the_route_says_itself_is_not_said_twice(saying):
    """Nor are its errors; the rest is information."""
    saying("safe_migrations.SM001", "safe_migrations.SM033", "safe_migrations.SM024")
    (found,) = linters.findings(a_plan(a_step("a")), [])
    assert (found.code, found.severity) == ("safe_migrations.SM024", Severity.INFO)
    assert (found.step, found.operation) == ("testapp.a", 0)


def test_the_setting_silences_them(saying, settings):
    saying("safe_migrations.SM024")
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LINTERS": False}
    assert list(linters.findings(a_plan(a_step("a")), [])) == []


def test_an_engine_that_fails_is_in_the_log_and_not_in_the_way(monkeypatch, caplog):
    def fail(plan, migrations):
        raise RuntimeError("of its own making")

    engines = {"broken": fail, "squawk": lambda plan, migrations: [a_result("squawk.odd")]}
    monkeypatch.setattr(linters, "_ENGINES", engines)
    with caplog.at_level(logging.WARNING, "migration_route.planning"):
        found = list(linters.findings(a_plan(a_step("a")), []))
    assert [finding.code for finding in found] == ["squawk.odd"]
    assert "The linter broken failed" in caplog.text


def test_every_rule_is_mapped_to_a_finding_that_there_is():
    assert set(linters.COVERED_RULES.values()) <= CODES
    assert not linters.IGNORED_RULES & linters.COVERED_RULES.keys()


def a_statement_plan(*statements: str, **words):
    parts = tuple(
        Operation(description="SQL", opaque=False, sql=(statement,))
        for statement in statements
    )
    return a_plan(a_step("a", operations=parts, **words))


def a_program(folder, body: str) -> str:
    """Write a program that hangs, or returns invalid output."""
    path = folder / "squawk"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_squawk_is_bounded_in_time(monkeypatch, tmp_path, database):
    monkeypatch.setattr(linters, "_program", lambda: a_program(tmp_path, "exec sleep 60"))
    monkeypatch.setattr(linters, "TIMEOUT", 0.2)
    with pytest.raises(subprocess.TimeoutExpired):
        list(linters.squawk_issues(a_statement_plan("SELECT 1"), []))


def test_squawk_is_only_asked_about_postgresql(monkeypatch, tmp_path):
    monkeypatch.setattr(linters, "_program", lambda: a_program(tmp_path, "exit 1"))
    plan = a_statement_plan("SELECT 1")
    assert list(linters.squawk_issues(a_plan(*plan.steps, vendor="sqlite"), [])) == []


def test_what_is_not_installed_says_nothing(monkeypatch):
    monkeypatch.setattr(linters, "_program", lambda: None)
    monkeypatch.setattr(linters, "find_spec", lambda name: None)
    plan = a_statement_plan("DROP TABLE a")
    assert list(linters.squawk_issues(plan, [])) == []
    assert list(linters.safe_migrations_issues(plan, [])) == []


@needs_squawk
def test_squawk_names_the_operation_whose_statement_it_is(database):
    """Also after a statement of several lines."""
    plan = a_statement_plan(
        "CREATE TABLE a (\n    id int\n)", "CREATE INDEX CONCURRENTLY i ON b (c);"
    )
    found = {result.code: result.operation for result in linters.squawk_issues(plan, [])}
    assert found["squawk.ban-concurrent-index-creation-in-transaction"] == 1
    outside = a_statement_plan("CREATE INDEX CONCURRENTLY i ON b (c);", atomic=False)
    codes = {result.code for result in linters.squawk_issues(outside, [])}
    assert "squawk.ban-concurrent-index-creation-in-transaction" not in codes


@needs_safe_migrations
@pytest.mark.parametrize("more", [0, 1])
def test_safe_migrations_does_not_read_a_long_migration(history, more, monkeypatch):
    """For each operation it parses the whole file."""
    monkeypatch.setattr(linters, "BUDGET", 60.0)
    history.write("0001_initial", create_model("Shelf"))
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_initial")
    some = ["migrations.RunSQL('SELECT 1', '')"] * (linters.MOST_OPERATIONS - 1 + more)
    history.write("0002_long", *some, "migrations.DeleteModel('Shelf')")
    history.write("0003_short", "migrations.RunPython(lambda *_: None)")
    plan, migrations = make_plan(PlanRequest(targets=("testapp",)))
    found = {r.step for r in linters.safe_migrations_issues(plan, migrations)}
    assert found == {"testapp.0003_short", *([] if more else ["testapp.0002_long"])}


@needs_safe_migrations
def test_safe_migrations_names_the_operation(history):
    history.write("0001_initial", create_model("Shelf"))
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_initial")
    history.write(
        "0002_less",
        "migrations.RunSQL('SELECT 1', '')",
        "migrations.DeleteModel('Shelf')",
    )
    plan, migrations = make_plan(PlanRequest(targets=("testapp",)))
    steps, _ = sql.with_sql(plan.steps, migrations, "default", Details(budget=10))
    plan = plan.with_details(steps=steps)
    found = {
        r.code: (r.step, r.operation)
        for r in linters.safe_migrations_issues(plan, migrations)
    }
    assert found["safe_migrations.SM003"] == ("testapp.0002_less", 1)
    assert connection.alias == plan.database
    assert "safe_migrations.SM003" not in {
        finding.code for finding in linters.findings(plan, migrations)
    }
