"""Tests of the decision on a plan, as a table with every possible result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from migration_route.core.enums import Direction, Mode, Scope, Severity
from migration_route.core.errors import (
    FingerprintRequired,
    Misconfigured,
    NeedsResolution,
    PlanChanged,
    Refused,
    RouteError,
    StaleCode,
)
from migration_route.core.values import ApprovalPolicy, Rule
from migration_route.planning.plan import Finding, Plan
from migration_route.policy.decision import (
    Allowed,
    Denied,
    Evidence,
    NeedsApproval,
    decide,
    scopes_for,
)
from tests.factories import a_plan, a_step

BUILD = "this build"
CODE, PLACE, PLAN = "b" * 12, "b" * 8, "b" * 64
OTHER_CODE, OTHER_PLACE, OTHER_PLAN = "c" * 12, "c" * 8, "c" * 64
READ = f"{CODE}-{PLACE}-{PLAN}"
BACK = Direction.BACKWARDS
ONE_WAY = a_step("0002_a", direction=BACK, reversible=False)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A plan, what else is known, and the expected decision."""

    name: str
    answer: type
    error: type[RouteError] | None = None
    plan: Plan = field(default_factory=lambda: a_plan(a_step(), fingerprint=READ))
    evidence: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case(name="what was read", answer=Allowed),
    Case(name="nothing to do", answer=Allowed, plan=a_plan(fingerprint=READ)),
    Case(
        name="the same plan, read by another build",
        answer=Allowed,
        evidence={"fingerprint": f"{OTHER_CODE}-{OTHER_PLACE}-{PLAN}"},
    ),
    *(
        Case(
            name=f"{code}, {severity}, {request}",
            answer=answer,
            error=Refused if answer is Denied else None,
            plan=a_plan(
                a_step(),
                fingerprint=READ,
                findings=(
                    Finding(code=code, severity=severity, message="so it is", step=step),
                ),
            ),
            evidence={"rebuild_invalid_indexes": request},
        )
        for code, severity, step, request, answer in (
            ("invalid_index", Severity.BLOCKING, "testapp.0002_more", False, Denied),
            ("invalid_index", Severity.BLOCKING, "testapp.0002_more", True, Allowed),
            ("invalid_index", Severity.BLOCKING, None, True, Denied),
            ("invalid_index", Severity.WARNING, None, False, Allowed),
            ("recorder_sequence_behind", Severity.BLOCKING, None, True, Denied),
            ("recorder_sequence_behind", Severity.WARNING, None, False, Allowed),
            ("phase_ambiguous", Severity.BLOCKING, "testapp.0002_more", True, Denied),
            ("phase_ambiguous", Severity.INFO, "testapp.0002_more", False, Allowed),
            ("before_deploy_pending", Severity.BLOCKING, None, False, Denied),
            ("no_safe_phase", Severity.WARNING, "testapp.0002_more", False, Allowed),
        )
    ),
    Case(
        name="nothing to do in a phase that is blocked",
        answer=Denied,
        error=Refused,
        plan=a_plan(
            fingerprint=READ,
            findings=(
                Finding(code="phase_ambiguous", severity=Severity.BLOCKING, message="so"),
            ),
        ),
    ),
    Case(
        name="nothing to do, though an index is invalid",
        answer=Allowed,
        plan=a_plan(
            fingerprint=READ,
            findings=(
                Finding(code="invalid_index", severity=Severity.BLOCKING, message="so"),
            ),
        ),
    ),
    Case(name="the digest alone", answer=Allowed, evidence={"fingerprint": PLAN}),
    Case(
        name="the build that was asked for",
        answer=Allowed,
        evidence={"expected_build": BUILD},
    ),
    Case(
        name="no fingerprint",
        answer=Denied,
        error=FingerprintRequired,
        evidence={"fingerprint": ""},
    ),
    Case(
        name="another plan, read by this build elsewhere",
        answer=Denied,
        error=PlanChanged,
        evidence={"fingerprint": f"{CODE}-{OTHER_PLACE}-{OTHER_PLAN}"},
    ),
    Case(
        name="another plan, read here before the files were edited",
        answer=Denied,
        error=PlanChanged,
        evidence={"fingerprint": f"{OTHER_CODE}-{PLACE}-{OTHER_PLAN}"},
    ),
    Case(
        name="another plan, read by another build elsewhere",
        answer=Denied,
        error=StaleCode,
        evidence={"fingerprint": f"{OTHER_CODE}-{OTHER_PLACE}-{OTHER_PLAN}"},
    ),
    Case(
        name="not a fingerprint at all",
        answer=Denied,
        error=StaleCode,
        evidence={"fingerprint": "nonsense"},
    ),
    Case(
        name="another build was asked for",
        answer=Denied,
        error=StaleCode,
        evidence={"expected_build": "another build"},
    ),
    Case(
        name="approvals are set",
        answer=NeedsApproval,
        evidence={"approvals": ApprovalPolicy(rules=(Rule(),))},
    ),
    Case(
        name="approvals cannot be read",
        answer=Denied,
        error=Misconfigured,
        evidence={"approvals": ApprovalPolicy(rules=(Rule(),), problems=("no dict",))},
    ),
    Case(
        name="a run is unresolved",
        answer=Denied,
        error=NeedsResolution,
        evidence={"unresolved": "0" * 32},
    ),
    Case(
        name="no way back",
        answer=Denied,
        error=Refused,
        plan=a_plan(ONE_WAY, fingerprint=READ),
    ),
    Case(
        name="no way back, recorded only",
        answer=Allowed,
        plan=a_plan(ONE_WAY, fingerprint=READ, mode=Mode.FAKE),
    ),
    Case(
        name="a way back",
        answer=Allowed,
        plan=a_plan(a_step("0002_a", direction=BACK), fingerprint=READ),
    ),
    Case(
        name="forwards through what has no way back",
        answer=Allowed,
        plan=a_plan(a_step("0002_a", reversible=False), fingerprint=READ),
    ),
)


def evidence(**changes: Any) -> Evidence:
    """Return what is known besides the plan."""
    known: dict[str, Any] = {
        "fingerprint": READ,
        "expected_build": "",
        "builds": frozenset({BUILD}),
        "unresolved": None,
    }
    return Evidence(**{**known, **changes})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_decide(case):
    """Each case has its own result, with the error that names the reason."""
    found = decide(case.plan, evidence(**case.evidence))
    assert type(found) is case.answer
    if isinstance(found, Allowed | NeedsApproval):
        assert found.plan is case.plan
    else:
        assert type(found.error) is case.error


def test_the_reasons_come_in_the_order_of_their_weight():
    """A changed plan is reported first, whatever else applies."""
    everything = evidence(
        fingerprint=f"{CODE}-{PLACE}-{OTHER_PLAN}",
        unresolved="0" * 32,
    )
    found = decide(a_plan(ONE_WAY, fingerprint=READ), everything)
    assert isinstance(found, Denied)
    assert type(found.error) is PlanChanged


def test_a_refusal_carries_what_the_caller_needs():
    """The fingerprint to read again, the run to resolve and the partial step are named."""
    plan = a_plan(ONE_WAY, fingerprint=READ)
    changed = decide(plan, evidence(fingerprint=f"{CODE}-{PLACE}-{OTHER_PLAN}"))
    assert isinstance(changed, Denied)
    assert changed.error.facts["fingerprint"] == READ
    unresolved = decide(plan, evidence(unresolved="7" * 32))
    assert isinstance(unresolved, Denied)
    assert unresolved.error.facts["run"] == "7" * 32
    stuck = decide(plan, evidence())
    assert isinstance(stuck, Denied)
    assert "testapp.0002_a" in stuck.error.message


@pytest.mark.parametrize(
    ("direction", "mode", "scopes"),
    [
        (Direction.NONE, Mode.APPLY, {Scope.APPLY}),
        (Direction.FORWARDS, Mode.APPLY, {Scope.APPLY}),
        (Direction.BACKWARDS, Mode.APPLY, {Scope.APPLY, Scope.REVERSE}),
        (Direction.FORWARDS, Mode.FAKE, {Scope.APPLY, Scope.FAKE}),
        (Direction.FORWARDS, Mode.FAKE_INITIAL, {Scope.APPLY, Scope.FAKE}),
        (Direction.BACKWARDS, Mode.FAKE, {Scope.APPLY, Scope.REVERSE, Scope.FAKE}),
    ],
)
def test_the_rights_that_a_run_needs(direction, mode, scopes):
    """Going back and faking need their own rights."""
    assert set(scopes_for(direction=direction, mode=mode)) == scopes
