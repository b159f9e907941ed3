"""Tests of the text that says whose approval a plan needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migration_route.core.values import ApprovalRequirement
from migration_route.presentation.serializers import approval_requirement_answer
from migration_route.presentation.text.runs import approval_requirement_words

ONE = ApprovalRequirement(required=1, rule="APPROVALS", why="APPROVALS always requires it")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "needs 1 approval by another user with the permission approve"),
        ({"self_approval": True}, "needs 1 approval by a user with the permission approve"),
        (
            {"required": 3},
            "needs 3 approvals by different other users with the permission approve",
        ),
        (
            {"required": 2, "self_approval": True, "permissions": ("approve", "shop.dba")},
            "needs 2 approvals by different users with the permission approve and the "
            "permission shop.dba",
        ),
    ],
    ids=str,
)
def test_how_many_who_and_why(changes, words):
    """The text is the same on the page and on the terminal."""
    found = approval_requirement_words(approval_requirement_answer(replace(ONE, **changes)))
    assert found == f"{words}, because APPROVALS always requires it"
