"""Tests the examples of the findings' pages: each bad one is planned and raises its
finding, and each good one is planned and does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.values import CODES, Blocked, Forecast, TableLock
from migration_route.planning import sql
from migration_route.planning.findings import findings_of
from migration_route.planning.plan import Details, PlanRequest
from migration_route.planning.planner import make_plan

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "findings"
BLOCK = re.compile(r"```python\n# shop/migrations/(\w+)\.py\n(.*?)```", re.DOTALL)

ELSEWHERE = {
    "backwards": "tests/planning/test_rules.py",
    "before_deploy_pending": "tests/planning/test_phases.py",
    "mixed_phases": "tests/planning/test_phases.py",
    "no_safe_phase": "tests/planning/test_phases.py",
    "overdue": "tests/planning/test_phases.py",
    "phase_ambiguous": "tests/planning/test_phases.py",
    "phase_not_understood": "tests/planning/test_phases.py",
    "invalid_index": "tests/e2e/test_preflight.py",
    "models_changed": "tests/planning/test_rules.py",
    "other_database": "tests/planning/test_rules.py",
    "recorder_sequence_behind": "tests/e2e/test_preflight.py",
    "sql_differs": "tests/e2e/test_rehearsal.py",
    "steps_not_read": "tests/planning/rules/test_reading.py",
}
"""Findings that no migration causes by itself, and the tests that cover them."""

ALWAYS = {"models_changed", "other_database", "backwards", "ddl_commits"}
BLOCKING = {
    "index_blocks_writes",
    "locks_parent",
    "not_null_scans",
    "rewrites_table",
    "scans_table",
    "validates_under_lock",
}
"""Findings from the forecasts of statements, which many examples cause."""

COMPANIONS = {
    "imports_models": {"forgets_alias"},
    "locks_parent": {"adds_reference"},
    "not_null_scans": {"forbids_null"},
    "unprotected_python": {"not_atomic"},
    "validates_under_lock": {"adds_check"},
}
"""Other correct findings on a bad example."""

ONLY_ON = {
    "concurrent_with_others": {"postgresql"},
    "ddl_commits": {"mysql"},
    "index_blocks_writes": {"postgresql"},
    "locks_parent": {"postgresql"},
    "mixes_data_and_schema": {"postgresql", "sqlite"},
    "not_atomic": {"postgresql", "sqlite"},
    "not_null_scans": {"postgresql"},
    "rewrites_table": {"postgresql"},
    "scans_table": {"postgresql"},
    "validates_under_lock": {"postgresql"},
}
NEEDS_ITS_DRIVER = "django.contrib.postgres"

BASE = (
    "migrations.CreateModel('Item', [('id', models.BigAutoField(primary_key=True)), "
    "('name', models.CharField(max_length=100)), ('notes', models.TextField(null=True)), "
    "('code', models.CharField(max_length=20, null=True)), "
    "('stock', models.IntegerField())])",
    "migrations.CreateModel('Order', [('id', models.BigAutoField(primary_key=True)), "
    "('item', models.ForeignKey('testapp.Item', models.CASCADE)), "
    "('item_number', models.BigIntegerField(null=True)), "
    "('count', models.IntegerField())])",
)


def examples(code: str, heading: str) -> list[tuple[str, str]]:
    """Return the names and sources of the migrations below a heading of a page."""
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    _, _, below = text.partition(f"\n## {heading}\n")
    found = BLOCK.findall(below.partition("\n## ")[0])
    return [(name, source.replace("shop", "testapp")) for name, source in found]


def known(code: str) -> None:
    """Skip where the database does not cause the finding."""
    if connection.vendor not in ONLY_ON.get(code, {connection.vendor}):
        pytest.skip(f"{code} is not about {connection.vendor}")


def codes_of(history, name: str, source: str, *, backwards: bool = False) -> set[str]:
    """Plan the migration on top of the models of the reference; return the findings."""
    if NEEDS_ITS_DRIVER in source and connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    (history.folder / f"{name}.py").write_text(source)
    record = MigrationRecorder(connections["default"])
    if backwards:
        record.record_applied("testapp", name)
    target = "testapp.0001_initial" if backwards else f"testapp.{name}"
    request = PlanRequest(targets=(target,))
    plan, migrations = make_plan(request)
    assert [step.name for step in plan.steps] == [name]
    steps, _ = sql.with_sql(plan.steps, migrations, "default", Details(budget=10))
    told = plan.with_details(steps=tuple(map(with_forecasts, steps)))
    every = {finding.code for finding in findings_of(told, migrations)}
    found = {code for code in every if "." not in code}  # those of other engines have one
    record.record_applied("testapp", name)
    return found


@pytest.fixture
def shop(history):
    """The models that the pages use, applied."""
    history.write("0001_initial", *BASE)
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_initial")
    return history


@pytest.mark.parametrize("code", sorted(CODES - ELSEWHERE.keys()))
def test_a_bad_example_raises_its_finding_and_no_other(shop, code):
    known(code)
    ((name, source),) = examples(code, "Bad")
    found = codes_of(shop, name, source, backwards=code == "irreversible")
    assert code in found
    assert found - {code} - ALWAYS - BLOCKING <= COMPANIONS.get(code, set())
    if code in BLOCKING - {"locks_parent"}:
        assert found & BLOCKING == {code}


@pytest.mark.parametrize("code", sorted(CODES - ELSEWHERE.keys() - {"ddl_commits"}))
def test_a_good_example_does_not_raise_it(shop, code):
    """One after the other, as in consecutive releases."""
    found = examples(code, "Good")
    assert found
    for name, source in found:
        codes = codes_of(shop, name, source, backwards=code == "irreversible")
        if code != "bad_acceptance":
            assert code not in codes
        else:
            assert "bad_acceptance" not in codes


@pytest.mark.parametrize("code", sorted(ELSEWHERE))
def test_the_other_pages_have_both_parts(code):
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert text.index("## Bad") < text.index("## Good")
    assert code in (PAGES.parents[2] / ELSEWHERE[code]).read_text(encoding="utf-8")


# --- forecasts, as in PostgreSQL's manual (Explicit Locking; ALTER TABLE) --------------

WRITES = frozenset({Blocked.WRITES, Blocked.SCHEMA_CHANGES})
EVERYTHING = frozenset(Blocked)
CHILD, PARENT = "testapp_order", "testapp_item"
KNOWN: tuple[tuple[str, str, frozenset[Blocked], tuple[str, ...], tuple[str, ...]], ...] = (
    (r"CREATE INDEX CONCURRENTLY", "", frozenset(), (PARENT,), ()),
    (r"CREATE (UNIQUE )?INDEX", "Share", WRITES, (PARENT,), ()),
    (r".*NOT VALID", "AccessExclusive", EVERYTHING, (), ()),
    (r".*FOREIGN KEY", "ShareRowExclusive", WRITES, (CHILD,), ()),
    (
        r".*(ADD CONSTRAINT|SET NOT NULL|ATTACH)",
        "AccessExclusive",
        EVERYTHING,
        (PARENT,),
        (),
    ),
    (r".* TYPE bigint", "AccessExclusive", EVERYTHING, (PARENT,), (PARENT,)),
)


def with_forecasts(step):
    """Return a step with handwritten forecasts of its statements."""
    return replace(
        step,
        operations=tuple(
            replace(operation, forecasts=tuple(map(forecast, operation.sql or ())))
            for operation in step.operations
        ),
    )


def forecast(statement: str) -> Forecast:
    for pattern, mode, blocks, scans, rewrites in KNOWN:
        if re.match(pattern, statement, re.DOTALL):
            tables = {CHILD, PARENT} if "FOREIGN KEY" in statement else {PARENT}
            locks = tuple(
                TableLock(table=table, mode=mode, blocks=blocks) for table in sorted(tables)
            )
            return Forecast(locks=locks, scans=scans, rewrites=rewrites)
    return Forecast()
