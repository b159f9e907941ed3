"""Tests of the risk of a plan."""

from __future__ import annotations

import pytest

from migration_route.core.enums import Severity
from migration_route.core.risk import Risk, risk_of
from migration_route.planning.findings.kinds import KINDS
from migration_route.planning.plan import Finding


def finding(code: str, severity: Severity) -> Finding:
    """Return a finding with this code."""
    return Finding(code=code, severity=severity, message="")


def test_without_findings_a_plan_is_safe():
    """Notes do not change that."""
    assert risk_of([]) is Risk.SAFE
    assert risk_of([finding("one_way", Severity.INFO)]) is Risk.SAFE


def test_an_accepted_loss_is_not_dangerous():
    """Its severity is `info`."""
    assert risk_of([finding("drops_table", Severity.INFO)]) is Risk.SAFE


@pytest.mark.parametrize("code", sorted(KINDS))
def test_every_kind_has_a_risk(code):
    """What loses data, or blocks the plan, is dangerous; any other warning is a caution."""
    severity = KINDS[code].severity
    loses = code in {
        "backwards",
        "drops_column",
        "drops_rows",
        "drops_table",
        "narrows_column",
    }
    expected = {
        Severity.INFO: Risk.SAFE,
        Severity.WARNING: Risk.DANGEROUS if loses else Risk.CAUTION,
        Severity.BLOCKING: Risk.DANGEROUS,
    }
    assert risk_of([finding(code, severity)]) is expected[severity]


def test_the_worst_finding_counts():
    """However many milder ones there are."""
    mild = [finding("adds_unique", Severity.WARNING)] * 9
    assert risk_of(mild) is Risk.CAUTION
    assert risk_of([*mild, finding("drops_rows", Severity.WARNING)]) is Risk.DANGEROUS
