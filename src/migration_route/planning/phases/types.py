"""Frozen values for the phase of a step, its source and its reason. Free of Django."""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.core.enums import Phase

COMPUTED = "computed"
"""The source of a phase that is not declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPhase:
    phase: Phase = Phase.ANY
    source: str = COMPUTED  # or what declares it: phase, safe, stage, _contract
    why: str = ""  # one sentence
    behind: tuple[str, ...] = ()  # steps after the deploy that it depends on
    is_mixed: bool = False  # it has operations for both sides
    unsafe: str = ""  # why neither side is safe; "" where one is
    delay: int = 0  # seconds to wait after it was first deferred
    not_understood: str = ""  # a declared value that is not a phase

    @property
    def waits_for(self) -> str:
        """Return the step because of which it comes after the deploy; "" for none."""
        is_after = self.phase is Phase.AFTER_DEPLOY
        return self.behind[0] if self.behind and not is_after else ""

    @property
    def carried_out(self) -> Phase:
        """Return the phase in which it is carried out: before or after the deploy."""
        is_after = self.phase is Phase.AFTER_DEPLOY or self.waits_for
        return Phase.AFTER_DEPLOY if is_after else Phase.BEFORE_DEPLOY

    @property
    def is_required(self) -> bool:
        """Return whether the new release needs it."""
        return self.phase is Phase.BEFORE_DEPLOY or (
            self.phase is Phase.ANY and not self.waits_for
        )

    @property
    def is_ambiguous(self) -> bool:
        """Return whether it belongs before the deploy but depends on a step after it."""
        return self.phase is Phase.BEFORE_DEPLOY and bool(self.waits_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A step that a plan of one phase leaves out because it comes later."""

    app: str
    name: str
    phase: StepPhase
    digest: str = ""  # SHA-256 of the migration's source
    why: str = ""  # why this plan leaves it out
    since: str = ""  # when a run first deferred it; "": none has
    by: str = ""  # the build that deferred it
    overdue: bool = False  # that build is no longer running

    @property
    def label(self) -> str:
        return f"{self.app}.{self.name}"
