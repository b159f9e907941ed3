"""Tests that the sweep detects a run whose report is false."""

from __future__ import annotations

import dataclasses

import pytest

from tests.harness import databases
from tests.outcome.outcome import read_outcome
from tests.sweep.steps import Step, Work
from tests.sweep.truth import Reference, is_over_cautious, look, untruths

PLAN = [
    Step(name="0002_sku", source="", works=(Work(is_in=None, undo=lambda _: None),)),
    Step(
        name="0003_colour",
        source="",
        works=(
            Work(
                is_in=lambda database: "colour" in database.columns("shop_item"),
                undo=lambda _: None,
            ),
        ),
    ),
]
BASE = (
    "CREATE TABLE django_migrations (id integer PRIMARY KEY, app text, name text)",
    "CREATE TABLE shop_item (id integer PRIMARY KEY, name text)",
    "INSERT INTO django_migrations (app, name) VALUES ('shop', '0001_initial')",
)
SKU = "ALTER TABLE shop_item ADD COLUMN sku text"
COLOUR = "ALTER TABLE shop_item ADD COLUMN colour text"


def record(name):
    """Return the statement that records a migration of the shop."""
    return f"INSERT INTO django_migrations (app, name) VALUES ('shop', '{name}')"


@pytest.fixture
def make(tmp_path):
    """Return a function that creates a database from statements."""

    def made(*statements):
        database = databases.create("sqlite", tmp_path)
        database.execute(*BASE, *statements)
        return database

    return made


@pytest.fixture
def reference(make):
    """Return the reference of an undisturbed run."""
    end = make(SKU, record("0002_sku"), COLOUR, record("0003_colour"))
    return Reference(
        after=[look(make()), look(make(SKU)), look(make(SKU, COLOUR))],
        end=read_outcome(end),
    )


def said(state, *steps, operations=None):
    """Return a run that reports this state and these steps."""
    names = [step.name for step in PLAN]
    words = [{"name": name, "state": step} for name, step in zip(names, steps, strict=True)]
    if operations:
        words[1]["operations"] = [
            {"position": position, "state": each}
            for position, each in enumerate(operations)
        ]
    return {"state": state, "outcome": state, "steps": words}


ONE = (SKU, record("0002_sku"))
ALL = (*ONE, COLOUR, record("0003_colour"))


@pytest.mark.parametrize(
    ("statements", "run"),
    [
        (ALL, said("succeeded", "applied", "applied")),
        (ONE, said("failed", "applied", "failed")),
        (ONE, said("failed", "applied", "not_started")),
        ((*ONE, COLOUR), said("partial", "applied", "partial")),
        ((*ONE, COLOUR), said("partial", "applied", "partial", operations=["present"])),
    ],
)
def test_what_is_true_is_found_to_be_true(make, reference, statements, run):
    assert untruths(run, make(*statements), PLAN, reference) == []


@pytest.mark.parametrize(
    ("statements", "run", "word"),
    [
        (ONE, said("succeeded", "applied", "applied"), "0003_colour is not recorded"),
        (
            (*ONE, record("0003_colour")),
            said("succeeded", "applied", "applied"),
            "missing: columns",
        ),
        (
            (*ALL, "INSERT INTO shop_item (name) VALUES ('twice')"),
            said("succeeded", "applied", "applied"),
            "rows of shop_item",
        ),
        ((*ONE, COLOUR), said("failed", "applied", "failed"), "0003_colour left"),
        (ONE, said("failed", "applied", "applied"), "says applied of 0003_colour"),
        (ONE, said("failed", "failed", "not_started"), "says failed of 0002_sku"),
        (ALL, said("partial", "applied", "partial"), "every step is recorded"),
        (
            ONE,
            said("partial", "applied", "partial", operations=["present"]),
            "says present of operation 0",
        ),
        (
            (*ONE, COLOUR),
            said("partial", "applied", "partial", operations=["absent"]),
            "says absent of operation 0",
        ),
        (ONE, said("lost", "applied", "failed"), "ended as lost"),
        (
            (record("0003_colour"),),
            said("failed", "failed", "not_started"),
            "out of turn",
        ),
        (
            (*ONE, record("0002_sku")),
            said("failed", "applied", "failed"),
            "out of turn",
        ),
    ],
)
def test_what_is_not_true_is_named(make, reference, statements, run, word):
    """Each false report is contradicted, with the reason."""
    found = untruths(run, make(*statements), PLAN, reference)
    assert found
    assert word in " ".join(found)


def test_partial_with_nothing_left_is_over_cautious(make, reference):
    """It is not false, but it is counted."""
    run = said("partial", "applied", "partial")
    assert is_over_cautious(run, make(*ONE), reference)
    assert not is_over_cautious(run, make(*ONE, COLOUR), reference)


def test_succeeded_without_permissions_is_not_true(make, reference):
    """The work of `migrate` after the last step is part of the outcome."""
    lacking = dataclasses.replace(
        reference,
        end=dataclasses.replace(reference.end, rows={**reference.end.rows, "auth": 1}),
    )
    run = said("succeeded", "applied", "applied")
    assert untruths(run, make(*ALL), PLAN, lacking)
