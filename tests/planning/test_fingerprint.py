"""Tests that a fingerprint changes with every part of a plan, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_route.core.enums import Direction, Mode
from migration_route.planning.plan import Operation, fingerprint_of, same_code, same_plan
from tests.factories import a_step

PARTS: dict[str, Any] = {
    "database": "default",
    "targets": ("testapp",),
    "direction": Direction.FORWARDS,
    "mode": Mode.APPLY,
    "steps": (a_step("0002_a"), a_step("0003_b")),
    "applied": frozenset({("testapp", "0001_initial"), ("auth", "0001_initial")}),
    "build": "one build",
    "place": "one place",
}


def of(**changes: object) -> str:
    """Return the fingerprint of the default plan with these changes."""
    return fingerprint_of(**{**PARTS, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"database": "other"},
        {"targets": ()},
        {"targets": ("testapp.0003_b",)},
        {"direction": Direction.BACKWARDS},
        {"mode": Mode.FAKE},
        {"mode": Mode.FAKE_INITIAL},
        {"steps": ()},
        {"steps": (a_step("0002_a"),)},
        {"steps": (a_step("0003_b"), a_step("0002_a"))},
        {"steps": (a_step("0002_a"), a_step("0003_b", app="another"))},
        {"steps": (a_step("0002_a"), a_step("0003_b", digest="other source"))},
        {"steps": (a_step("0002_a"), a_step("0003_b", direction=Direction.BACKWARDS))},
        {"applied": frozenset()},
        {"applied": PARTS["applied"] | {("other", "0001_initial")}},
    ],
    # Not str: each process orders a set differently.
    ids=lambda changes: "-".join(changes),
)
def test_each_part_of_a_plan_changes_it(changes):
    assert not same_plan(of(), of(**changes))


def test_what_is_told_besides_does_not_change_it():
    """SQL and the marks of a step are details of the same plan."""
    told = replace(
        PARTS["steps"][0], operations=(Operation(description="x", opaque=False),)
    )
    assert of(steps=(told, PARTS["steps"][1])) == of()


@given(st.permutations(sorted(PARTS["applied"])), st.booleans())
def test_the_order_of_what_is_applied_does_not_count(applied, twice):
    """The recorder may return any order, and a row twice."""
    assert of(applied=applied * 2 if twice else applied) == of()


def test_another_build_reads_the_same_plan():
    """The build is in the fingerprint, but does not change the plan."""
    left, right = of(build="one build"), of(build="another build")
    assert left != right
    assert same_plan(left, right)


OTHER_PLAN: dict[str, Any] = {"applied": frozenset()}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"build": "another build"}, True),  # edited since, at the same path
        ({"place": "another place"}, True),  # the same release on another host
        ({"build": "another build", "place": "another place"}, False),
    ],
    ids=str,
)
def test_a_fingerprint_tells_whether_the_code_is_the_same(changes, same):
    """So a difference can be attributed either to the code or to the database."""
    assert same_code(of(), of(**OTHER_PLAN, **changes)) is same


@given(st.one_of(st.text(max_size=80), st.from_regex(r"[0-9a-f-]{0,80}")))
def test_any_text_can_be_compared(text):
    """A client's text never matches by accident, and never raises an error."""
    assert not same_plan(of(), text)
    assert not same_code(of(), text)


def test_a_fingerprint_fits_into_its_column():
    """The row of a run stores a hundred characters of it."""
    assert len(of()) <= 100
