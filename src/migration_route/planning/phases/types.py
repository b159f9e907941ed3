"""On which side of a deploy does a step belong, who says so, and why? Frozen values.

No Django here.
"""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.core.enums import Phase

COMPUTED = "computed"
"""The source of a phase that nobody has declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPhase:
    """The phase of one step of a plan."""

    phase: Phase = Phase.ANY
    source: str = COMPUTED  # or what declares it: phase, safe, stage, _contract
    why: str = ""  # one sentence
    behind: tuple[str, ...] = ()  # steps after the deploy that it cannot overtake
    is_mixed: bool = False  # it has operations for before and for after
    unsafe: str = ""  # why neither side is safe; "" where one is
    delay: int = 0  # seconds that it is to wait after it was first put off
    not_understood: str = ""  # what it declares that means nothing here

    @property
    def waits_for(self) -> str:
        """Return the step for whose sake it comes after the deploy; "" for none."""
        is_after = self.phase is Phase.AFTER_DEPLOY
        return self.behind[0] if self.behind and not is_after else ""

    @property
    def carried_out(self) -> Phase:
        """Return in which phase it is carried out: before the deploy, or after it."""
        is_after = self.phase is Phase.AFTER_DEPLOY or self.waits_for
        return Phase.AFTER_DEPLOY if is_after else Phase.BEFORE_DEPLOY

    @property
    def is_required(self) -> bool:
        """Tell whether the new release cannot do without it."""
        return self.phase is Phase.BEFORE_DEPLOY or (
            self.phase is Phase.ANY and not self.waits_for
        )

    @property
    def is_ambiguous(self) -> bool:
        """Tell whether it belongs before the deploy and stands behind one that does not."""
        return self.phase is Phase.BEFORE_DEPLOY and bool(self.waits_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A step that a plan of one phase leaves out: it is known, and comes later."""

    app: str
    name: str
    phase: StepPhase
    digest: str = ""  # SHA-256 of the migration's source
    why: str = ""  # why this plan leaves it out
    since: str = ""  # when a run first put it off; "": none has
    by: str = ""  # the build that did so
    overdue: bool = False  # that build is not the one that answers now

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"
