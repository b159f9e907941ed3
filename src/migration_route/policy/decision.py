"""Decides whether a plan may run now. A pure function without Django."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from migration_route.core.enums import ActorKind, Direction, Mode, Scope, Severity
from migration_route.core.errors import (
    FingerprintRequired,
    Misconfigured,
    NeedsResolution,
    PlanChanged,
    Refused,
    RouteError,
    StaleCode,
)
from migration_route.core.values import (
    ActorRef,
    ApprovalPolicy,
    ApprovalRequirement,
    RecordedDecision,
)
from migration_route.planning.plan import Finding, Plan, same_code, same_plan
from migration_route.policy.approvals import (
    combine_requirements,
    is_satisfied,
    requirement_for,
)

_ANONYMOUS = ActorRef(kind=ActorKind.ANONYMOUS, name="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The facts that a decision needs besides the plan."""

    fingerprint: str  # of the reviewed plan
    expected_build: str  # by the caller; "" for any
    builds: frozenset[str]  # of this process: in memory, and on disk
    unresolved: str | None  # the run that left this database partially migrated
    rebuild_invalid_indexes: bool = False  # it may drop them first
    permitted_by: str | None = None  # the issuer of a permit, which replaces approvals
    requester: ActorRef = _ANONYMOUS
    approvals: ApprovalPolicy | None = None  # the current policy, if any
    has_all_details: bool = False  # the plan has all of its findings
    demanded: ApprovalRequirement | None = None  # when the run was requested
    given: tuple[RecordedDecision, ...] = ()  # the decisions of users about that run


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The right to carry out one plan, once."""

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsApproval:
    """The plan needs the approval of other users before it may run."""

    plan: Plan
    approval_requirement: ApprovalRequirement

    def approved(
        self, given: Iterable[RecordedDecision], *, requester: ActorRef
    ) -> Allowed | NeedsApproval:
        met = is_satisfied(self.approval_requirement, given, requester=requester)
        return Allowed(plan=self.plan) if met else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The plan may not run, with the reason."""

    error: RouteError


Decision = Allowed | NeedsApproval | Denied


def scopes_for(*, direction: Direction, mode: Mode) -> tuple[Scope, ...]:
    """Return the scopes that a run of this kind needs."""
    scopes = [Scope.APPLY]
    if direction is Direction.BACKWARDS:
        scopes.append(Scope.REVERSE)
    if mode is not Mode.APPLY:
        scopes.append(Scope.FAKE)
    return tuple(scopes)


def decide(plan: Plan, evidence: Evidence) -> Decision:
    """Decide whether a plan may run now, for an actor with the right to request it."""
    if not evidence.fingerprint:
        return Denied(error=FingerprintRequired())
    if stale := _stale(plan, evidence):
        return Denied(error=stale)
    if evidence.approvals is not None and evidence.approvals.problems:
        return Denied(error=_unreadable(evidence.approvals))
    if evidence.unresolved is not None:
        return Denied(
            error=NeedsResolution(
                f"Run {evidence.unresolved} stopped midway and left the database "
                f"{plan.database!r} partially migrated.",
                run=evidence.unresolved,
            )
        )
    if (
        blocked := _irreversible(plan)
        or _out_of_phase(plan)
        or _bound_to_fail(plan, evidence)
    ):
        return Denied(error=blocked)
    if missing := _missing(plan, evidence):
        return NeedsApproval(plan=plan, approval_requirement=missing)
    return Allowed(plan=plan)


def _missing(plan: Plan, evidence: Evidence) -> ApprovalRequirement | None:
    """Return the requirement that is not met, never less than at the request; None where it
    is met."""
    kind = evidence.requester.kind
    now = requirement_for(
        plan, evidence.approvals, kind, has_all_details=evidence.has_all_details
    )
    requirement = combine_requirements(now, evidence.demanded)
    if requirement is None or evidence.permitted_by:
        return None
    met = is_satisfied(requirement, evidence.given, requester=evidence.requester)
    return None if met else requirement


def _unreadable(policy: ApprovalPolicy) -> RouteError:
    return Misconfigured(
        "The setting APPROVALS is invalid, so no migration is applied. "
        + " ".join(policy.problems)
    )


def _stale(plan: Plan, evidence: Evidence) -> RouteError | None:
    facts: dict[str, Any] = {"fingerprint": plan.fingerprint, "build": plan.build}
    if evidence.expected_build and evidence.expected_build not in evidence.builds:
        return StaleCode(
            f"This is build {plan.build!r}, not {evidence.expected_build!r}.", **facts
        )
    if same_plan(plan.fingerprint, evidence.fingerprint):
        return None
    if same_code(plan.fingerprint, evidence.fingerprint):
        return PlanChanged(**facts)
    return StaleCode(**facts)


def _irreversible(plan: Plan) -> RouteError | None:
    if plan.direction is not Direction.BACKWARDS or plan.mode is Mode.FAKE:
        return None
    stuck = [step.label for step in plan.steps if not step.reversible]
    if not stuck:
        return None
    return Refused(
        f"This plan would reverse irreversible steps: {', '.join(stuck)}.",
        hint="Undo the change with a new forward migration instead.",
    )


_OF_PHASES = frozenset({"phase_ambiguous", "before_deploy_pending"})


def _out_of_phase(plan: Plan) -> RouteError | None:
    """Return a refusal for a phase that is not due, or cannot be carried out as a whole."""
    found = [
        finding
        for finding in plan.findings
        if finding.severity is Severity.BLOCKING and finding.code in _OF_PHASES
    ]
    return _refused_for(found) if found else None


_OF_THE_SURROUNDINGS = frozenset({"invalid_index", "recorder_sequence_behind"})


def _bound_to_fail(plan: Plan, evidence: Evidence) -> RouteError | None:
    """Return a refusal if the plan would fail on the database as it is."""
    found = [
        finding
        for finding in plan.findings
        if finding.severity is Severity.BLOCKING
        and finding.code in _OF_THE_SURROUNDINGS
        and not (evidence.rebuild_invalid_indexes and is_rebuilt(finding))
    ]
    if not found or not plan.steps:
        return None
    return _refused_for(found)


def _refused_for(found: list[Finding]) -> Refused:
    return Refused(
        " ".join(finding.message for finding in found),
        hint=" ".join(dict.fromkeys(finding.hint for finding in found)),
        findings=[finding.code for finding in found],
    )


def is_rebuilt(finding: Finding) -> bool:
    """Return whether a finding is about an index that a step of the plan rebuilds."""
    return finding.code == "invalid_index" and finding.step is not None
