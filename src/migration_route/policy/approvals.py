"""Decides which approvals a plan needs, and whether they are present. Pure functions
without Django."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from migration_route.core.enums import (
    ActorKind,
    ApprovalDecision,
    Direction,
    Mode,
    Scope,
    Severity,
)
from migration_route.core.values import (
    APPROVE,
    ActorRef,
    ApprovalPolicy,
    ApprovalRequirement,
    RecordedDecision,
    Rule,
    When,
    family_of,
)
from migration_route.planning.plan import Finding, Plan

APPROVER_KINDS = frozenset({ActorKind.USER, ActorKind.COMMAND})
"""The kinds of actors that may approve: a shell with access to the settings counts as its
user."""

_COUNTING = frozenset({Severity.WARNING.value, Severity.BLOCKING.value})
_MOST_NAMED = 5


def verbs_of(*, direction: Direction, mode: Mode) -> frozenset[Scope]:
    """Return what a plan does, as rules name it: a faked reversal is both verbs."""
    found = set()
    if direction is Direction.BACKWARDS:
        found.add(Scope.REVERSE)
    if mode is not Mode.APPLY:
        found.add(Scope.FAKE)
    return frozenset(found or {Scope.APPLY})


def reads_findings(policy: ApprovalPolicy | None, plan: Plan, actor: ActorKind) -> bool:
    """Return whether the approval requirement depends on the findings of a plan."""
    rules = policy.rules if policy and plan.steps else ()
    first = next((rule for rule in rules if _is_about(rule, plan, actor)), Rule())
    return first.findings is not None or first.when is When.FINDINGS


def requirement_for(
    plan: Plan, policy: ApprovalPolicy | None, actor: ActorKind, *, has_all_details: bool
) -> ApprovalRequirement | None:
    """Return what a policy requires before this kind of actor may carry out a plan, or
    None.

    `has_all_details`: the plan has all of its findings. The strictest requirement applies
    where the findings matter but are incomplete, and where no rule matches.
    """
    if policy is None or not plan.steps:
        return None
    for rule in policy.rules:
        if not _is_about(rule, plan, actor):
            continue
        if rule.when is When.NEVER:
            return None
        if rule.when is When.ALWAYS and rule.findings is None:
            return _demand(rule, f"{rule.name} always requires it")
        if found := [one for one in plan.findings if _counts(one, rule)]:
            return _demand(rule, f"{rule.name} requires it for {_named(found)}")
        if not has_all_details:
            return strictest_requirement(
                policy, "its findings could not all be read in time"
            )
        if rule.when is When.FINDINGS:
            return None
    return strictest_requirement(policy, "no rule of APPROVALS matches it")


def strictest_requirement(policy: ApprovalPolicy, why: str) -> ApprovalRequirement:
    """Return the strictest combination of all rules, for plans that no rule decides."""
    asking = [rule for rule in policy.rules if rule.when is not When.NEVER]
    usual = Rule()
    return ApprovalRequirement(
        required=max((rule.required for rule in asking), default=usual.required),
        permissions=_all(rule.permission for rule in asking) or (APPROVE,),
        self_approval=False,
        lifetime=min((rule.lifetime for rule in asking), default=usual.lifetime),
        rule="the strictest",
        why=why,
    )


def combine_requirements(
    left: ApprovalRequirement | None, right: ApprovalRequirement | None
) -> ApprovalRequirement | None:
    """Return a requirement that is as strict as both: a requirement is never relaxed
    later."""
    if left is None or right is None:
        return left or right
    more = right if right.required > left.required else left
    lifetime: timedelta = min(left.lifetime, right.lifetime)
    return ApprovalRequirement(
        required=more.required,
        permissions=_all((*left.permissions, *right.permissions)),
        self_approval=left.self_approval and right.self_approval,
        lifetime=lifetime,
        rule=more.rule,
        why=more.why,
    )


def valid_approvals(
    requirement: ApprovalRequirement,
    given: Iterable[RecordedDecision],
    *,
    requester: ActorRef,
) -> tuple[RecordedDecision, ...]:
    """Return the approvals that count towards a requirement: one per user."""
    found: list[RecordedDecision] = []
    for one in given:
        if (
            one.decision is ApprovalDecision.APPROVE
            and one.by.kind in APPROVER_KINDS
            and (requirement.self_approval or not is_same_actor(one.by, requester))
            and has_permissions(one.by.kind, one.permissions, requirement)
            and not any(is_same_actor(one.by, other.by) for other in found)
        ):
            found.append(one)
    return tuple(found)


def is_satisfied(
    requirement: ApprovalRequirement,
    given: Iterable[RecordedDecision],
    *,
    requester: ActorRef,
) -> bool:
    """Return whether as many users as required have approved."""
    return (
        len(valid_approvals(requirement, given, requester=requester))
        >= requirement.required
    )


def has_permissions(
    kind: ActorKind, permissions: frozenset[str], requirement: ApprovalRequirement
) -> bool:
    """Return whether an actor has every required permission; a shell has."""
    return kind is ActorKind.COMMAND or permissions >= set(requirement.permissions)


def is_same_actor(left: ActorRef, right: ActorRef) -> bool:
    """Return whether two actors are the same user, as far as can be determined.

    Users are compared by primary key, shells by the account of their process. Between the
    two kinds only names can be compared: the user `ada` and the account `ada` count as one.
    What `ada` does under another account of the host cannot be detected.
    """
    if left.kind is right.kind:
        return left.key == right.key
    kinds = {left.kind, right.kind}
    return kinds == APPROVER_KINDS and _account(left.name) == _account(right.name)


def _account(name: str) -> str:
    return name.partition("@")[0].casefold()


def _is_about(rule: Rule, plan: Plan, actor: ActorKind) -> bool:
    """Return whether a rule matches a plan, apart from its findings.

    For a plan with two verbs, a rule that always asks needs to name only one of them; a
    rule that may let the plan pass must name both.
    """
    if rule.databases is not None and plan.database not in rule.databases:
        return False
    if rule.actors is not None and actor not in rule.actors:
        return False
    if rule.verbs is None:
        return True
    verbs = verbs_of(direction=plan.direction, mode=plan.mode)
    return bool(verbs & rule.verbs) if rule.when is When.ALWAYS else verbs <= rule.verbs


def _counts(finding: Finding, rule: Rule) -> bool:
    if finding.accepted:
        return False
    names = {finding.code, family_of(finding.code), finding.severity.value}
    return bool(names & (_COUNTING if rule.findings is None else rule.findings))


def _named(found: list[Finding]) -> str:
    names = list(
        dict.fromkeys(f"{one.code} ({one.step})" if one.step else one.code for one in found)
    )
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _demand(rule: Rule, why: str) -> ApprovalRequirement:
    return ApprovalRequirement(
        required=rule.required,
        permissions=(rule.permission,),
        self_approval=rule.self_approval,
        lifetime=rule.lifetime,
        rule=rule.name,
        why=why,
    )


def _all(permissions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(permissions)))
