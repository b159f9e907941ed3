"""Whose approval does this plan need, and is that there? Pure functions; no Django here."""

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
    ApprovalGiven,
    ApprovalPolicy,
    ApprovalRequirement,
    Rule,
    When,
    family_of,
)
from migration_route.planning.plan import Finding, Plan

PEOPLE = frozenset({ActorKind.PERSON, ActorKind.COMMAND})
"""Who may approve: whoever has a shell and the settings is the person of that shell."""

_COUNTING = frozenset({Severity.WARNING.value, Severity.BLOCKING.value})
_MOST_NAMED = 5


def verbs_of(*, direction: Direction, mode: Mode) -> frozenset[Scope]:
    """Return what a plan does, in the words of a rule: a faked way back does two things."""
    found = set()
    if direction is Direction.BACKWARDS:
        found.add(Scope.REVERSE)
    if mode is not Mode.APPLY:
        found.add(Scope.FAKE)
    return frozenset(found or {Scope.APPLY})


def reads_findings(policy: ApprovalPolicy | None, plan: Plan, actor: ActorKind) -> bool:
    """Tell whether the findings of a plan matter to what would be demanded."""
    rules = policy.rules if policy and plan.steps else ()
    first = next((rule for rule in rules if _is_about(rule, plan, actor)), Rule())
    return first.findings is not None or first.when is When.FINDINGS


def requirement_for(
    plan: Plan, policy: ApprovalPolicy | None, actor: ActorKind, *, all_told: bool
) -> ApprovalRequirement | None:
    """Return what a policy demands before this kind of actor may carry out a plan.

    `all_told`: the plan has all of its findings. Where they matter and are not all told,
    and where no rule fits, the strictest demand is made. None: nothing is demanded.
    """
    if policy is None or not plan.steps:
        return None
    for rule in policy.rules:
        if not _is_about(rule, plan, actor):
            continue
        if rule.when is When.NEVER:
            return None
        if rule.when is When.ALWAYS and rule.findings is None:
            return _demand(rule, f"{rule.name} asks for it always")
        if found := [one for one in plan.findings if _counts(one, rule)]:
            return _demand(rule, f"{rule.name} asks for it: {_named(found)}")
        if not all_told:
            return strictest(policy, "its findings could not all be read in time")
        if rule.when is When.FINDINGS:
            return None
    return strictest(policy, "no rule of APPROVALS is about it")


def strictest(policy: ApprovalPolicy, why: str) -> ApprovalRequirement:
    """Return what is demanded where no rule says what: as much as any rule ever does."""
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


def stricter(
    left: ApprovalRequirement | None, right: ApprovalRequirement | None
) -> ApprovalRequirement | None:
    """Return a demand that is as strict as both: nothing is ever made easier later."""
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
    demand: ApprovalRequirement, given: Iterable[ApprovalGiven], *, requester: ActorRef
) -> tuple[ApprovalGiven, ...]:
    """Return the approvals that count for a demand: each person once."""
    found: list[ApprovalGiven] = []
    for one in given:
        if (
            one.decision is ApprovalDecision.APPROVE
            and one.by.kind in PEOPLE
            and (demand.self_approval or not is_same(one.by, requester))
            and has_all(one.by.kind, one.permissions, demand)
            and not any(is_same(one.by, other.by) for other in found)
        ):
            found.append(one)
    return tuple(found)


def is_satisfied(
    demand: ApprovalRequirement, given: Iterable[ApprovalGiven], *, requester: ActorRef
) -> bool:
    """Tell whether as many people as are demanded have agreed."""
    return len(valid_approvals(demand, given, requester=requester)) >= demand.required


def has_all(
    kind: ActorKind, permissions: frozenset[str], demand: ApprovalRequirement
) -> bool:
    """Tell whether somebody has every permission that is demanded; a shell has."""
    return kind is ActorKind.COMMAND or permissions >= set(demand.permissions)


def is_same(left: ActorRef, right: ActorRef) -> bool:
    """Tell whether two are one person, as far as the route can tell.

    Users are compared by their primary keys, shells by the accounts of their processes.
    Across the two, names are all there is: the user `ada` and the account `ada` count as
    one. What `ada` does as another account of the host cannot be seen.
    """
    if left.kind is right.kind:
        return left.key == right.key
    kinds = {left.kind, right.kind}
    return kinds == PEOPLE and _account(left.name) == _account(right.name)


def _account(name: str) -> str:
    return name.partition("@")[0].casefold()


def _is_about(rule: Rule, plan: Plan, actor: ActorKind) -> bool:
    """Tell whether a rule is about a plan, its findings left aside.

    Of a plan that does two things, it is enough for a rule that always asks to name one
    of them; one that may let the plan pass has to name both.
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
