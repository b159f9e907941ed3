"""Does a fingerprint change with everything that it should, and with nothing else?"""

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
    """Return the fingerprint of the usual plan, with something changed."""
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
    # Not str: a set is written in another order by each process.
    ids=lambda changes: "-".join(changes),
)
def test_each_part_of_a_plan_changes_it(changes):
    """A plan that differs in any part is another plan."""
    assert not same_plan(of(), of(**changes))


def test_what_is_told_besides_does_not_change_it():
    """SQL and marks of a step say more about the same plan."""
    told = replace(
        PARTS["steps"][0], operations=(Operation(description="x", opaque=False),)
    )
    assert of(steps=(told, PARTS["steps"][1])) == of()


@given(st.permutations(sorted(PARTS["applied"])), st.booleans())
def test_the_order_of_what_is_applied_does_not_count(applied, twice):
    """The recorder may answer in any order, and name a row twice."""
    assert of(applied=applied * 2 if twice else applied) == of()


def test_another_build_reads_the_same_plan():
    """The build is in the fingerprint, and does not make another plan of it."""
    left, right = of(build="one build"), of(build="another build")
    assert left != right
    assert same_plan(left, right)


OTHER_PLAN: dict[str, Any] = {"applied": frozenset()}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"build": "another build"}, True),  # edited since, in the same place
        ({"place": "another place"}, True),  # the same release on another host
        ({"build": "another build", "place": "another place"}, False),
    ],
    ids=str,
)
def test_a_fingerprint_tells_whether_the_code_is_the_same(changes, same):
    """So a plan that differs can be blamed on the code or on what has happened."""
    assert same_code(of(), of(**OTHER_PLAN, **changes)) is same


@given(st.one_of(st.text(max_size=80), st.from_regex(r"[0-9a-f-]{0,80}")))
def test_any_text_can_be_compared(text):
    """What a caller sends is never this plan by accident, and never an error."""
    assert not same_plan(of(), text)
    assert not same_code(of(), text)


def test_a_fingerprint_fits_into_its_column():
    """The row of a run keeps a hundred characters of it."""
    assert len(of()) <= 100
