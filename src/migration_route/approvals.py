"""Whose approval does a plan need? The policy as data, and what it demands; no Django.

`conf/approvals.py` reads it, `deciding/approving.py` weighs a plan by it, and the row of a
run keeps what was demanded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, unique
from typing import Any

from migration_route.vocabulary import ActorKind, ApprovalDecision, Scope

APPROVE = Scope.APPROVE.value
"""The permission that is meant where a rule names none."""


@unique
class When(StrEnum):
    """When does a rule ask for approval?"""

    ALWAYS = "always"
    FINDINGS = "findings"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the setting APPROVALS; None: it does not matter to the rule."""

    number: int = 0  # its place in `rules`, from 1; 0: the one rule for everything
    databases: frozenset[str] | None = None
    actors: frozenset[ActorKind] | None = None
    verbs: frozenset[Scope] | None = None
    findings: frozenset[str] | None = None  # codes, families and severities that count
    when: When = When.ALWAYS
    required: int = 1
    permission: str = APPROVE
    self_approval: bool = False
    lifetime: timedelta = timedelta(hours=24)

    @property
    def name(self) -> str:
        """Return how it is called where people read of it."""
        return f"rule {self.number} of APPROVALS" if self.number else "APPROVALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """The setting APPROVALS: the first rule that fits a plan decides."""

    rules: tuple[Rule, ...] = ()
    problems: tuple[str, ...] = ()  # it cannot be read, and nothing passes

    @property
    def permissions(self) -> frozenset[str]:
        """Return the permissions of the project that it asks for."""
        return frozenset(rule.permission for rule in self.rules) - {APPROVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a plan needs before it may run."""

    required: int  # people
    permissions: tuple[str, ...] = (APPROVE,)  # each of them needs all of these
    self_approval: bool = False  # may whoever has asked be one of them?
    lifetime: timedelta = timedelta(hours=24)  # of the request
    rule: str  # which rule it was
    why: str  # a clause: "APPROVALS asks for it always"

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "required": self.required,
            "permissions": list(self.permissions),
            "self_approval": self.self_approval,
            "lifetime": self.lifetime.total_seconds(),
            "rule": self.rule,
            "why": self.why,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Demand:
        """Read what `to_dict` returned."""
        return cls(
            required=stored["required"],
            permissions=tuple(stored["permissions"]),
            self_approval=stored["self_approval"],
            lifetime=timedelta(seconds=stored["lifetime"]),
            rule=stored["rule"],
            why=stored["why"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An actor, for the question whether two are the same.

    `key` is what stays when a name changes: the primary key of a user, the account of a
    shell. The name is what people read.
    """

    kind: ActorKind
    name: str = field(compare=False)
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What somebody has said of a run that waits for approval."""

    decision: ApprovalDecision
    by: Identity
    permissions: frozenset[str]  # those that they had, of those that mattered then
    reason: str = ""
    at: str = ""
