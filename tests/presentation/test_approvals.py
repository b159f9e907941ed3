"""Is it told in plain words whose approval a plan needs?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from migration_route.core.values import ApprovalRequirement
from migration_route.presentation.serializers import demand_answer
from migration_route.presentation.text.runs import demand_words

ONE = ApprovalRequirement(required=1, rule="APPROVALS", why="APPROVALS asks for it always")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "needs 1 approval by another person with the right approve"),
        ({"self_approval": True}, "needs 1 approval by a person with the right approve"),
        (
            {"required": 3},
            "needs 3 approvals by as many other people with the right approve",
        ),
        (
            {"required": 2, "self_approval": True, "permissions": ("approve", "shop.dba")},
            "needs 2 approvals by as many people with the right approve and the "
            "permission shop.dba",
        ),
    ],
    ids=str,
)
def test_how_many_who_and_why(changes, words):
    """The sentence is the same on the page and on the terminal."""
    found = demand_words(demand_answer(replace(ONE, **changes)))
    assert found == f"{words}, because APPROVALS asks for it always"
