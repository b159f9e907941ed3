"""Tests of the report of a rehearsal on a terminal."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from migration_route.presentation.schemas import (
    ActorAnswer,
    LimitAnswer,
    RehearsalAnswer,
    RehearsalsAnswer,
    ReportAnswer,
    SeenLockAnswer,
    SeenOperationAnswer,
    SeenStatementAnswer,
    SeenStepAnswer,
    StepErrorAnswer,
)
from migration_route.presentation.text.rehearsals import rehearsal_lines, rehearsals_lines

LOCK = SeenLockAnswer(table="shop_item", mode="ACCESS EXCLUSIVE", blocks=[], held_ms=7)
ADD = SeenStatementAnswer(
    sql="ALTER TABLE\n  shop_item  ADD COLUMN sku text",
    duration_ms=4,
    times=1,
    total_ms=4,
    rows=None,
    locks=[LOCK],
    rewrites=["shop_item"],
    failed=False,
)
SELECT = SeenStatementAnswer(
    sql="SELECT name FROM shop_item WHERE id = %s",
    duration_ms=9,
    times=3,
    total_ms=12,
    rows=1,
    locks=None,
    rewrites=[],
    failed=True,
)
ADDS = SeenOperationAnswer(
    position=0,
    description="Add field sku to item",
    duration_ms=5,
    runs_python=False,
    queries=0,
    distinct=0,
    omitted=0,
    statements=[ADD],
)
RUNS = replace(
    ADDS,
    position=1,
    description="Raw Python operation",
    runs_python=True,
    queries=3,
    distinct=1,
    omitted=2,
    statements=[SELECT],
)
STEP = SeenStepAnswer(
    app="shop",
    name="0002_sku",
    direction="forwards",
    state="applied",
    duration_ms=20,
    operations=[ADDS],
    sql_differences=[],
    error=None,
)
REPORT = ReportAnswer(
    steps=[STEP],
    back=None,
    differences=None,
    limits=[],
    copy_ms=3,
    duration_ms=20,
    output=[],
)
REHEARSAL = RehearsalAnswer(
    id="r1",
    database="default",
    state="succeeded",
    ended=True,
    kind="schema",
    round_trip=False,
    in_place=False,
    direction="forwards",
    targets=[],
    phase=None,
    fingerprint="c-p-p",
    requested_by=ActorAnswer(kind="user", name="ada"),
    reason="",
    build="b1",
    created_at="2026-11-23T18:03:24.364424Z",
    started_at="2026-11-23T18:03:25.000000Z",
    finished_at="2026-11-23T18:03:29.000000Z",
    error=None,
    copy_removed=True,
    longest_lock=LOCK,
    report=REPORT,
    duration_ms=1500,
    steps=1,
)


def test_a_report_shows_each_statement_with_its_locks():
    assert list(rehearsal_lines(REHEARSAL)) == [
        "rehearsal r1 on a copy of default: succeeded",
        "  rehearsed at 2026-11-23 18:03 UTC, schema only, 1.5 s, "
        "longest lock ACCESS EXCLUSIVE on shop_item, 7 ms",
        "  applied      shop.0002_sku  20 ms",
        "    Add field sku to item  5 ms",
        "      4 ms, ACCESS EXCLUSIVE on shop_item for 7 ms, rewrites shop_item: "
        "ALTER TABLE shop_item ADD COLUMN sku text",
        "fingerprint c-p-p",
    ]


def test_a_report_counts_the_queries_of_python_code():
    step = replace(STEP, operations=[RUNS])
    found = replace(REHEARSAL, report=replace(REPORT, steps=[step]))
    lines = list(rehearsal_lines(found))
    assert "      3 queries, 1 distinct; slowest shown" in lines
    assert (
        "      3 times, 12 ms in total, 9 ms at most, 1 row, failed: "
        "SELECT name FROM shop_item WHERE id = %s" in lines
    )


@pytest.mark.parametrize(
    ("queries", "shown"), [(0, "no queries"), (1, "1 query, 1 distinct")]
)
def test_few_queries_are_counted_in_words(queries, shown):
    operation = replace(RUNS, queries=queries, omitted=0, statements=[])
    report = replace(REPORT, steps=[replace(STEP, operations=[operation])])
    assert f"      {shown}" in list(rehearsal_lines(replace(REHEARSAL, report=report)))


def test_a_failed_rehearsal_names_the_operation_and_the_error():
    """In one line each, whatever the message of the database contains."""
    error = StepErrorAnswer(type="IntegrityError", message="key\n  (id)", operation=1)
    step = replace(STEP, state="failed", duration_ms=None, error=error)
    report = replace(REPORT, steps=[step])
    found = replace(REHEARSAL, state="failed", error=error, report=report)
    lines = list(rehearsal_lines(found))
    assert "  rehearsed at 2026-11-23 18:03 UTC, schema only: failed" in lines
    assert "  IntegrityError: key (id)" in lines
    assert "  failed       shop.0002_sku" in lines
    assert "    operation 2: IntegrityError: key (id)" in lines


@pytest.mark.parametrize(
    ("differences", "shown"),
    [
        ([], "  schema after the round trip: unchanged"),
        (["- index item_code"], "  schema differs: - index item_code"),
    ],
)
def test_a_round_trip_shows_the_way_back_and_the_schema_after_it(differences, shown):
    back = replace(STEP, name="0001_initial", direction="backwards", state="reverted")
    report = replace(REPORT, back=[back], differences=differences)
    lines = list(rehearsal_lines(replace(REHEARSAL, report=report)))
    assert lines[lines.index("  reversed") + 1] == "  reverted     shop.0001_initial  20 ms"
    assert shown in lines


def test_a_report_lists_what_it_could_not_cover():
    limits = [
        LimitAnswer(code="a", message="Rows were not copied.", step=None),
        LimitAnswer(code="b", message="It needs a transaction.", step="shop.0003_x"),
    ]
    lines = list(rehearsal_lines(replace(REHEARSAL, report=replace(REPORT, limits=limits))))
    position = lines.index("  not covered:")
    assert lines[position + 1 : position + 3] == [
        "    Rows were not copied.",
        "    shop.0003_x: It needs a transaction.",
    ]


def test_a_list_has_one_line_for_each_rehearsal():
    """One in progress shows its state, and no report."""
    active = replace(
        REHEARSAL, id="r2", state="copying", ended=False, kind="data", report=None
    )
    answer = RehearsalsAnswer(rehearsals=[active, REHEARSAL], next=None)
    first, second = rehearsals_lines(answer)
    assert first == (
        "r2  2026-11-23T18:03:24Z  default      copying    rehearsal, with data: copying"
    )
    assert second.startswith(
        "r1  2026-11-23T18:03:24Z  default      succeeded  rehearsed at 2026-11-23 18:03"
    )
