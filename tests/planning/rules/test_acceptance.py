"""Tests that a migration can accept findings visibly, and only with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.migrations import Migration

from migration_route.core.enums import Severity
from migration_route.planning.findings import apply_acceptances
from migration_route.planning.plan import Finding

REASON = "No release has used it since March."


def accepting(accepted):
    """Return a migration that accepts these findings."""
    migration: Any = Migration("0002_less", "shop")  # a project adds the attribute
    migration.accepted_findings = accepted
    return migration


def a_finding(code="drops_column", *, severity=Severity.WARNING, step="shop.0002_less"):
    return Finding(code=code, severity=severity, message="Gone.", step=step)


def told(accepted, *found):
    """Return code, severity and accepted reason of the remaining findings."""
    after = apply_acceptances(found, [accepting(accepted)])
    return [(finding.code, finding.severity, finding.accepted) for finding in after]


def test_an_accepted_finding_stays_visible_with_its_reason():
    assert told({"drops_column": f" {REASON} "}, a_finding()) == [
        ("drops_column", Severity.INFO, REASON)
    ]


def test_only_the_migration_itself_accepts():
    """Neither for another step nor for another code."""
    others = (
        a_finding("drops_table"),
        a_finding(step="shop.0003_more"),
        a_finding(step=None),
    )
    assert told({"drops_column": REASON}, *others) == [
        (found.code, Severity.WARNING, "") for found in others
    ]


def test_what_the_route_would_refuse_cannot_be_accepted():
    found = a_finding("irreversible", severity=Severity.BLOCKING)
    assert told({"irreversible": REASON}, found) == [
        ("irreversible", Severity.BLOCKING, "")
    ]


@pytest.mark.parametrize(
    "accepted",
    [{"drops_colunm": REASON}, {3: REASON}, ["drops_column"], "drops_column"],
)
def test_an_acceptance_of_nothing_is_a_finding_itself(accepted):
    assert told(accepted, a_finding()) == [
        ("drops_column", Severity.WARNING, ""),
        ("bad_acceptance", Severity.WARNING, ""),
    ]


@pytest.mark.parametrize("reason", ["", "  ", None, True])
def test_an_acceptance_without_a_reason_does_not_count(reason):
    assert told({"drops_column": reason}, a_finding()) == [
        ("drops_column", Severity.WARNING, ""),
        ("bad_acceptance", Severity.WARNING, ""),
    ]


def test_codes_of_other_engines_can_be_accepted():
    found = a_finding("squawk.ban-drop-column", severity=Severity.INFO)
    assert told({"squawk.ban-drop-column": REASON}, found) == [
        ("squawk.ban-drop-column", Severity.INFO, REASON)
    ]
