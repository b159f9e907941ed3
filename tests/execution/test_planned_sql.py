"""Tests of the comparison of what a step sends with the SQL of its plan."""

from __future__ import annotations

import pytest

from migration_route.core.enums import Direction
from migration_route.execution.worker.planned_sql import sql_differences, without_values
from migration_route.planning.plan import Operation, Step
from migration_route.vendors.sql_lexer import dialect_of


def step(*operations: Operation) -> Step:
    return Step(
        app="shop",
        name="0001_a",
        direction=Direction.FORWARDS,
        digest="",
        operations=operations,
        atomic=True,
        rolls_back=True,
        reversible=True,
    )


def operation(*sql: str, opaque: bool = False) -> Operation:
    return Operation(description="x", opaque=opaque, sql=sql)


def differences(planned: Step, sent: list[list[str]], at_end: list[str]) -> list[str]:
    return list(sql_differences(planned, sent, at_end, vendor="postgresql"))


@pytest.mark.parametrize(
    ("vendor", "planned", "sent"),
    [
        ("postgresql", "UPDATE a SET b = 'it''s';", "UPDATE a SET b = %s"),
        ("postgresql", "UPDATE a SET b = '2026-01-01'::timestamptz", "UPDATE a SET b = %s"),
        ("postgresql", "UPDATE a SET b = E'\\n', c = -1", "UPDATE a SET b = %s, c = %s"),
        ("postgresql", "UPDATE a SET b = NULL", "UPDATE  a\nSET b = 5"),
        ("sqlite", "INSERT INTO a VALUES (X'00', -1.5e3)", "INSERT INTO a VALUES (%s, %s)"),
        ("sqlite", "SELECT 1 WHERE a LIKE 'x%'", "SELECT 1 WHERE a LIKE 'x%%'"),
        ("mysql", "UPDATE `a` SET b = 'it\\'s' /* x */", "UPDATE `a` SET b = %s"),
    ],
)
def test_values_do_not_count(vendor, planned, sent):
    dialect = dialect_of(vendor)
    assert without_values(planned, dialect) == without_values(sent, dialect)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ALTER TABLE a ADD b int", "ALTER TABLE a ADD c int"),
        ("ALTER TABLE a ADD b int", "ALTER TABLE a ADD b bigint"),
        ('ALTER TABLE "a"."b" ADD c int', 'ALTER TABLE "b" ADD c int'),
        ("UPDATE a SET b = 1 - 1", "UPDATE a SET b = 1"),
    ],
)
def test_everything_else_counts(one, other):
    dialect = dialect_of("postgresql")
    assert without_values(one, dialect) != without_values(other, dialect)


def test_equal_statements_in_another_order_are_no_difference():
    planned = step(operation("CREATE a;", "CREATE b;"), operation("ALTER c"))
    assert differences(planned, [["CREATE b", "CREATE a"], ["ALTER c"]], []) == []


def test_a_statement_that_is_sent_more_often_is_a_difference():
    planned = step(operation("CREATE a"))
    assert differences(planned, [["CREATE a"] * 3], []) == [
        "sent, not planned (2 times): CREATE a"
    ]


def test_what_is_only_planned_and_what_is_only_sent_are_named_without_values():
    planned = step(operation("UPDATE a SET b = 'secret'"))
    assert differences(planned, [["UPDATE a SET c = 'secret'"]], []) == [
        "planned, not sent: UPDATE a SET b = ?",
        "sent, not planned: UPDATE a SET c = ?",
    ]


def test_reads_and_transactions_are_not_compared():
    planned = step(operation("CREATE a"))
    sent = [["BEGIN", "SELECT 1", "CREATE a", "SAVEPOINT x", "COMMIT"]]
    assert differences(planned, sent, []) == []


def test_the_end_of_a_step_is_compared():
    planned = step(operation("CREATE a"), operation("ADD CONSTRAINT b"))
    assert differences(planned, [["CREATE a"]], ["ADD CONSTRAINT b"]) == []
    assert differences(planned, [["CREATE a"]], []) == [
        "planned, not sent: ADD CONSTRAINT b"
    ]


def test_python_and_the_end_of_its_step_are_not_compared():
    planned = step(operation("CREATE a"), operation(opaque=True))
    sent = [["CREATE a"], ["UPDATE a SET b = 1"]]
    assert differences(planned, sent, ["ADD CONSTRAINT c"]) == []
    assert differences(planned, [[], []], []) == ["planned, not sent: CREATE a"]


def test_of_many_differences_the_first_are_listed():
    found = differences(step(operation()), [[f"CREATE a{n}" for n in range(50)]], [])
    assert len(found) == 20
    assert found[-1] == "and 31 more"
