"""Tests of whose approvals a plan needs and whether they exist, as a table of cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from migration_route.core.enums import (
    ActorKind,
    ApprovalDecision,
    Direction,
    Mode,
    Scope,
    Severity,
)
from migration_route.core.values import (
    CODES,
    FAMILIES,
    ActorRef,
    ApprovalPolicy,
    ApprovalRequirement,
    RecordedDecision,
    Rule,
    When,
    family_of,
)
from migration_route.planning.plan import Finding, Plan
from migration_route.policy.approvals import (
    combine_requirements,
    is_same_actor,
    reads_findings,
    requirement_for,
    strictest_requirement,
    valid_approvals,
)
from migration_route.policy.decision import Allowed, Evidence, NeedsApproval, decide
from tests.factories import a_plan, a_step

READ = "b" * 12 + "-" + "b" * 8 + "-" + "b" * 64
USER, TOKEN, COMMAND = ActorKind.USER, ActorKind.TOKEN, ActorKind.COMMAND
ADA = ActorRef(kind=USER, name="ada")
HOUR = timedelta(hours=1)
BACK = Direction.BACKWARDS


def finding(code: str, severity: Severity = Severity.WARNING, **words: Any) -> Finding:
    return Finding(code=code, severity=severity, message="so it is", **words)


DROPS = finding("drops_column", step="testapp.0002_more")
SCANS = finding("scans_table")
TOLD = finding("one_way", Severity.INFO)
ACCEPTED = replace(DROPS, accepted="It is empty.")
LINT = finding("squawk.ban-something")

FORWARDS = a_plan(a_step(), fingerprint=READ)
BACKWARDS = a_plan(a_step(direction=BACK), fingerprint=READ)
FAKED = replace(FORWARDS, mode=Mode.FAKE)
FAKED_BACK = replace(BACKWARDS, mode=Mode.FAKE)
NOTHING = a_plan(fingerprint=READ)

ALWAYS = Rule()
NEVER = Rule(when=When.NEVER)
ON_FINDINGS = Rule(when=When.FINDINGS)
TWO = Rule(required=2, lifetime=HOUR, permission="shop.dba", self_approval=True)


def found(*findings: Finding, plan: Plan = FORWARDS) -> Plan:
    """Return a plan with these findings."""
    return replace(plan, findings=findings)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A policy, a plan and its requester; and the required number of approvals with its
    rule."""

    name: str
    rules: tuple[Rule, ...] | None
    plan: Plan = FORWARDS
    actor: ActorKind = USER
    has_all_details: bool = True
    required: int | None = None  # None: no approval is required
    rule: int = 0  # its position, from 0; -1: the strictest


def numbered(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Number the rules, as the settings do."""
    return tuple(replace(rule, number=place) for place, rule in enumerate(rules, start=1))


def only(**words: Any) -> Rule:
    """Return a rule that requires two approvals, and does not match everything."""
    return Rule(required=2, **words)


HERE, ELSEWHERE = frozenset({"default"}), frozenset({"other"})
DESTRUCTIVE, FAKES = frozenset({"destructive"}), frozenset({Scope.FAKE})
REVERSES = frozenset({Scope.REVERSE})

TABLE = (
    Row(name="no policy", rules=None),
    Row(name="a policy without rules", rules=(), required=1, rule=-1),
    Row(name="nothing to do", rules=(ALWAYS,), plan=NOTHING),
    Row(name="always", rules=(ALWAYS,), required=1),
    Row(name="never", rules=(NEVER,)),
    Row(name="the first that fits: never", rules=(NEVER, ALWAYS)),
    Row(name="the first that fits: always", rules=(TWO, NEVER), required=2),
    # --- databases
    Row(name="its database", rules=(only(databases=HERE), ALWAYS), required=2),
    Row(name="another database", rules=(only(databases=ELSEWHERE),), required=2, rule=-1),
    Row(
        name="another database, then the next",
        rules=(only(databases=ELSEWHERE), ALWAYS),
        required=1,
        rule=1,
    ),
    Row(
        name="never for another database",
        rules=(Rule(databases=ELSEWHERE, when=When.NEVER),),
        required=1,
        rule=-1,
    ),
    # --- actors
    *(
        Row(
            name=f"a rule about {about}, and a {actor} asks",
            rules=(only(actors=frozenset({about})), NEVER),
            actor=actor,
            required=2 if about is actor else None,
        )
        for about in (USER, TOKEN, COMMAND)
        for actor in (USER, TOKEN, COMMAND)
    ),
    # --- verbs
    Row(name="going back", rules=(only(verbs=REVERSES),), plan=BACKWARDS, required=2),
    Row(
        name="forwards, a rule about going back",
        rules=(only(verbs=REVERSES), NEVER),
        required=None,
    ),
    Row(name="faking", rules=(only(verbs=FAKES),), plan=FAKED, required=2),
    Row(
        name="faking is not applying",
        rules=(Rule(verbs=frozenset({Scope.APPLY}), when=When.NEVER),),
        plan=FAKED,
        required=1,
        rule=-1,
    ),
    Row(
        name="faked back, a rule about faking asks",
        rules=(only(verbs=FAKES), NEVER),
        plan=FAKED_BACK,
        required=2,
    ),
    Row(
        name="faked back, a rule about faking lets nothing pass that it does not name",
        rules=(Rule(verbs=FAKES, when=When.NEVER),),
        plan=FAKED_BACK,
        required=1,
        rule=-1,
    ),
    Row(
        name="faked back, both are named",
        rules=(Rule(verbs=FAKES | REVERSES, when=When.NEVER),),
        plan=FAKED_BACK,
    ),
    # --- findings
    Row(name="on findings, none", rules=(ON_FINDINGS,)),
    Row(name="on findings, a warning", rules=(ON_FINDINGS,), plan=found(DROPS), required=1),
    Row(
        name="on findings, a blocking one",
        rules=(ON_FINDINGS,),
        plan=found(finding("phase_not_understood", Severity.BLOCKING)),
        required=1,
    ),
    Row(name="on findings, for information", rules=(ON_FINDINGS,), plan=found(TOLD)),
    Row(name="on findings, an accepted one", rules=(ON_FINDINGS,), plan=found(ACCEPTED)),
    Row(
        name="on findings, those of an engine",
        rules=(ON_FINDINGS,),
        plan=found(LINT),
        required=1,
    ),
    *(
        Row(
            name=f"findings that count: {name}, found {one.code}",
            rules=(Rule(when=When.FINDINGS, findings=frozenset({name})),),
            plan=found(one),
            required=required,
        )
        for name, one, required in (
            ("drops_column", DROPS, 1),
            ("drops_column", SCANS, None),
            ("destructive", DROPS, 1),
            ("destructive", SCANS, None),
            ("destructive", ACCEPTED, None),
            ("info", TOLD, 1),
            ("info", DROPS, None),
            ("irreversible", TOLD, 1),
            ("squawk", LINT, 1),
            ("squawk.ban-something", LINT, 1),
        )
    ),
    Row(
        name="a rule for plans that destroy",
        rules=(only(findings=DESTRUCTIVE), ON_FINDINGS),
        plan=found(SCANS, DROPS),
        required=2,
    ),
    Row(
        name="a rule for plans that destroy, and this one only scans",
        rules=(only(findings=DESTRUCTIVE), ON_FINDINGS),
        plan=found(SCANS),
        required=1,
        rule=1,
    ),
    Row(
        name="a rule for plans that destroy, and this one is harmless",
        rules=(only(findings=DESTRUCTIVE), ON_FINDINGS),
    ),
    Row(
        name="a rule for plans that destroy, and no other",
        rules=(only(findings=DESTRUCTIVE),),
        required=2,
        rule=-1,
    ),
    # --- findings that are not known
    Row(
        name="on findings, and not all are told",
        rules=(ON_FINDINGS, TWO),
        has_all_details=False,
        required=2,
        rule=-1,
    ),
    Row(
        name="on findings, not all are told, one that counts is",
        rules=(ON_FINDINGS, TWO),
        plan=found(DROPS),
        has_all_details=False,
        required=1,
    ),
    Row(
        name="a rule for plans that destroy, and not all findings are told",
        rules=(only(findings=DESTRUCTIVE), NEVER),
        has_all_details=False,
        required=2,
        rule=-1,
    ),
    Row(name="never, and not all are told", rules=(NEVER,), has_all_details=False),
    Row(
        name="always, and not all are told",
        rules=(ALWAYS,),
        has_all_details=False,
        required=1,
    ),
)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_what_is_demanded(row):
    """The number and the rule of each row; the decision follows from them."""
    policy = None if row.rules is None else ApprovalPolicy(rules=numbered(row.rules))
    requirement = requirement_for(
        row.plan, policy, row.actor, has_all_details=row.has_all_details
    )
    evidence = Evidence(
        fingerprint=READ,
        expected_build="",
        builds=frozenset(),
        unresolved=None,
        requester=ActorRef(kind=row.actor, name="ada"),
        approvals=policy,
        has_all_details=row.has_all_details,
    )
    decision = decide(row.plan, evidence)
    if row.required is None:
        assert requirement is None
        assert isinstance(decision, Allowed)
        return
    assert requirement is not None
    assert isinstance(decision, NeedsApproval)
    assert decision.approval_requirement == requirement
    assert requirement.required == row.required
    expected = "the strictest" if row.rule < 0 else f"rule {row.rule + 1} of APPROVALS"
    assert requirement.rule == expected
    assert requirement.why
    if not row.has_all_details and expected == "the strictest":
        assert "could not all be read" in requirement.why
    # A permit of another kind replaces all of them.
    assert isinstance(decide(row.plan, replace(evidence, permitted_by="p1")), Allowed)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_findings_are_looked_for_where_they_matter(row):
    """Where they do not matter, the requirement is the same for any findings."""
    policy = None if row.rules is None else ApprovalPolicy(rules=row.rules)
    if reads_findings(policy, row.plan, row.actor):
        return
    bare = replace(row.plan, findings=())
    for told in (True, False):
        requirement = requirement_for(row.plan, policy, row.actor, has_all_details=told)
        assert requirement == requirement_for(bare, policy, row.actor, has_all_details=told)


def test_the_strictest_is_as_strict_as_any_rule():
    """The maximum number, every permission, the shortest lifetime, and no self-approval."""
    rules = (Rule(required=3), TWO, Rule(when=When.NEVER, required=9, lifetime=HOUR / 2))
    assert strictest_requirement(ApprovalPolicy(rules=rules), "so") == ApprovalRequirement(
        required=3,
        permissions=("approve", "shop.dba"),
        self_approval=False,
        lifetime=HOUR,
        rule="the strictest",
        why="so",
    )


def test_why_names_what_was_found():
    """The codes with their steps, limited to a readable number."""
    many = tuple(finding(code) for code in sorted(CODES)[:8])
    policy = ApprovalPolicy(rules=(ON_FINDINGS,))
    requirement = requirement_for(found(DROPS, *many), policy, USER, has_all_details=True)
    assert requirement is not None
    assert "drops_column (testapp.0002_more), " in requirement.why
    assert requirement.why.endswith(" and 4 more")


def a_demand(**words: Any) -> ApprovalRequirement:
    """Return a requirement of one approval."""
    return replace(ApprovalRequirement(required=1, rule="APPROVALS", why="so"), **words)


def test_what_was_demanded_is_never_demanded_less():
    """The result combines the strictest parts of both."""
    left = a_demand(required=2, self_approval=True, lifetime=2 * HOUR, why="left")
    right = a_demand(permissions=("shop.dba",), lifetime=HOUR, why="right")
    for both in (combine_requirements(left, right), combine_requirements(right, left)):
        assert both is not None
        assert (both.required, both.why, both.lifetime) == (2, "left", HOUR)
        assert both.permissions == ("approve", "shop.dba")
        assert not both.self_approval
    assert combine_requirements(left, None) == combine_requirements(None, left) == left
    assert combine_requirements(None, None) is None


def approved(name: str, kind: ActorKind = USER, *permissions: str) -> RecordedDecision:
    """Return an approval, with the right `approve` by default."""
    return RecordedDecision(
        decision=ApprovalDecision.APPROVE,
        by=ActorRef(kind=kind, name=name),
        permissions=frozenset(permissions or ("approve",)),
    )


GIVEN = [
    ("nobody", (), {}, 0),
    ("another", (approved("grace"),), {}, 1),
    ("the requester", (approved("ada"),), {}, 0),
    (
        "the requester, where that is allowed",
        (approved("ada"),),
        {"self_approval": True},
        1,
    ),
    ("the requester's shell", (approved("ada@host", COMMAND),), {}, 0),
    ("the requester's shell, in capitals", (approved("ADA@host", COMMAND),), {}, 0),
    ("another shell", (approved("grace@host", COMMAND),), {}, 1),
    ("a machine", (approved("ci", TOKEN),), {}, 0),
    ("the same person twice", (approved("grace"), approved("grace")), {"required": 2}, 1),
    (
        "one person by two ways",
        (approved("grace"), approved("grace@host", COMMAND)),
        {"required": 2},
        1,
    ),
    ("two people", (approved("grace"), approved("mary")), {"required": 2}, 2),
    ("another permission", (approved("grace"),), {"permissions": ("shop.dba",)}, 0),
    (
        "the permission",
        (approved("grace", USER, "shop.dba"),),
        {"permissions": ("shop.dba",)},
        1,
    ),
    (
        "one of two permissions",
        (approved("grace", USER, "shop.dba"),),
        {"permissions": ("approve", "shop.dba")},
        0,
    ),
    (
        "a shell has every permission",
        (approved("grace@host", COMMAND),),
        {"permissions": ("shop.dba",)},
        1,
    ),
    (
        "a rejection",
        (replace(approved("grace"), decision=ApprovalDecision.REJECT),),
        {},
        0,
    ),
]


@pytest.mark.parametrize(
    ("given", "changes", "count"), [row[1:] for row in GIVEN], ids=[row[0] for row in GIVEN]
)
def test_which_approvals_count(given, changes, count):
    """The decision depends on whether they are enough."""
    requirement = a_demand(**changes)
    assert len(valid_approvals(requirement, given, requester=ADA)) == count
    evidence = Evidence(
        fingerprint=READ,
        expected_build="",
        builds=frozenset(),
        unresolved=None,
        requester=ADA,
        demanded=requirement,
        given=given,
    )
    kind = Allowed if count >= requirement.required else NeedsApproval
    assert type(decide(FORWARDS, evidence)) is kind


def test_a_policy_that_is_gone_does_not_take_the_demand_along():
    """The requirement at the request stays, and a stricter policy adds to it."""
    evidence = Evidence(
        fingerprint=READ,
        expected_build="",
        builds=frozenset(),
        unresolved=None,
        requester=ADA,
        demanded=a_demand(),
        given=(approved("grace"),),
    )
    assert isinstance(decide(FORWARDS, replace(evidence, given=())), NeedsApproval)
    assert isinstance(decide(FORWARDS, evidence), Allowed)
    stricter_now = replace(evidence, approvals=ApprovalPolicy(rules=(Rule(required=2),)))
    assert isinstance(decide(FORWARDS, stricter_now), NeedsApproval)
    laxer_now = replace(evidence, given=(), approvals=ApprovalPolicy(rules=(NEVER,)))
    assert isinstance(decide(FORWARDS, laxer_now), NeedsApproval)


def test_identities_that_are_one_person():
    """The permanent identifier decides; between a user and an account, the names do."""
    assert is_same_actor(ADA, ADA)
    assert not is_same_actor(ADA, ActorRef(kind=USER, name="ada@example.org"))
    assert is_same_actor(ADA, ActorRef(kind=COMMAND, name="ada@host"))
    assert not is_same_actor(ADA, ActorRef(kind=TOKEN, name="ada"))
    assert is_same_actor(
        ActorRef(kind=COMMAND, name="ada@one", key="ada"),
        ActorRef(kind=COMMAND, name="ada@two", key="ada"),
    )
    renamed = ActorRef(kind=USER, name="grace", key="7")
    assert is_same_actor(ActorRef(kind=USER, name="ada", key="7"), renamed)
    assert not is_same_actor(ActorRef(kind=USER, name="grace", key="8"), renamed)
    assert not is_same_actor(ActorRef(kind=COMMAND, name="root@one", key="7"), renamed)


def test_every_finding_has_one_family():
    """The families in a policy are those of the reference."""
    codes = [code for family in FAMILIES.values() for code in family]
    assert len(codes) == len(set(codes))
    for family, members in FAMILIES.items():
        assert {family_of(code) for code in members} == {family}
    assert family_of("squawk.ban-drop-column") == "squawk"
    assert family_of("no_such_finding") == ""
