"""May this plan run now? A pure function; no Django here."""

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
    ApprovalGiven,
    ApprovalPolicy,
    ApprovalRequirement,
)
from migration_route.planning.plan import Finding, Plan, same_code, same_plan
from migration_route.policy.approvals import is_satisfied, requirement_for, stricter

_NOBODY = ActorRef(kind=ActorKind.ANONYMOUS, name="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known besides the plan itself."""

    fingerprint: str  # the one that was read
    expected_build: str  # the one that the caller counts on; "" for any
    builds: frozenset[str]  # those that answer here: in memory, and on disk
    unresolved: str | None  # the run that left this database in between
    rebuild_invalid_indexes: bool = False  # what the plan makes anew may be dropped first
    permitted_by: str | None = None  # whose permit stands for an approval, if one came
    requester: ActorRef = _NOBODY
    approvals: ApprovalPolicy | None = None  # the policy as it is now; None: there is none
    all_told: bool = False  # the plan has all of its findings
    demanded: ApprovalRequirement | None = (
        None  # what was demanded when the run was asked for
    )
    given: tuple[ApprovalGiven, ...] = ()  # what people have said of that run


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The right to carry out one plan, once."""

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsApproval:
    """Other people have to agree before the plan may run."""

    plan: Plan
    demand: ApprovalRequirement

    def approved(
        self, given: Iterable[ApprovalGiven], *, requester: ActorRef
    ) -> Allowed | NeedsApproval:
        """Return what becomes of this when so many have agreed."""
        met = is_satisfied(self.demand, given, requester=requester)
        return Allowed(plan=self.plan) if met else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The plan does not run, and why."""

    error: RouteError


Decision = Allowed | NeedsApproval | Denied


def scopes_for(*, direction: Direction, mode: Mode) -> tuple[Scope, ...]:
    """Return the rights that a run of this kind needs."""
    scopes = [Scope.APPLY]
    if direction is Direction.BACKWARDS:
        scopes.append(Scope.REVERSE)
    if mode is not Mode.APPLY:
        scopes.append(Scope.FAKE)
    return tuple(scopes)


def decide(plan: Plan, evidence: Evidence) -> Decision:
    """Decide whether a plan may run now, for an actor who has the right to ask."""
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
                f"{plan.database!r} in between.",
                run=evidence.unresolved,
            )
        )
    if blocked := _no_way_back(plan) or _out_of_phase(plan) or _in_the_way(plan, evidence):
        return Denied(error=blocked)
    if missing := _missing(plan, evidence):
        return NeedsApproval(plan=plan, demand=missing)
    return Allowed(plan=plan)


def _missing(plan: Plan, evidence: Evidence) -> ApprovalRequirement | None:
    """Return what is demanded, unless that is there: never less than at the request."""
    kind = evidence.requester.kind
    now = requirement_for(plan, evidence.approvals, kind, all_told=evidence.all_told)
    demand = stricter(now, evidence.demanded)
    if demand is None or evidence.permitted_by:
        return None
    met = is_satisfied(demand, evidence.given, requester=evidence.requester)
    return None if met else demand


def _unreadable(policy: ApprovalPolicy) -> RouteError:
    return Misconfigured(
        "The setting APPROVALS cannot be read: nothing is applied rather than past it. "
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


def _no_way_back(plan: Plan) -> RouteError | None:
    if plan.direction is not Direction.BACKWARDS or plan.mode is Mode.FAKE:
        return None
    stuck = [step.label for step in plan.steps if not step.reversible]
    if not stuck:
        return None
    return Refused(
        f"There is no way back through {', '.join(stuck)}.",
        hint="Go forwards with a new migration instead.",
    )


_OF_PHASES = frozenset({"phase_ambiguous", "before_deploy_pending"})


def _out_of_phase(plan: Plan) -> RouteError | None:
    """Refuse a phase whose turn it is not, or that cannot be carried out as a whole."""
    found = [
        finding
        for finding in plan.findings
        if finding.severity is Severity.BLOCKING and finding.code in _OF_PHASES
    ]
    return _refused_for(found) if found else None


_OF_THE_SURROUNDINGS = frozenset({"invalid_index", "recorder_sequence_behind"})


def _in_the_way(plan: Plan, evidence: Evidence) -> RouteError | None:
    """Refuse what the database as it is would make fail."""
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
    """Tell whether a finding is about an index that a step of the plan makes anew."""
    return finding.code == "invalid_index" and finding.step is not None
