"""The summary of a plan at the top of its page: how dangerous it is, how long it takes, and
whether it may start now."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone
from django.utils.formats import date_format

from migration_route.core.enums import RunState, Severity
from migration_route.core.risk import Risk, risk_of
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger.records import RunRecord
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.presentation.text.plans import duration_words, lock_line
from migration_route.web.filters import lock_effect, readable, risk_tone
from migration_route.web.plans import HealthView, OpeningView, PlanView


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Whether a run may start now, in a few words and a color."""

    words: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    risk: Risk
    tone: str
    is_complete: bool  # the findings of every step are known
    blocking: int
    warnings: int
    notes: int
    lock: str  # the longest one, rehearsed or forecast
    moment: Moment
    approvals: str  # "" if none are needed

    @property
    def asks_for_name(self) -> bool:
        """Whether the user has to type the name of the database."""
        return self.risk is Risk.DANGEROUS or not self.is_complete


def verdict_of(
    view: PlanView,
    *,
    last: RunRecord | None,
    health: HealthView | None,
    opening: OpeningView,
    requirement: ApprovalRequirement | None,
    rehearsal: RehearsalRecord | None,
) -> Verdict:
    """Return the verdict on a plan; `last` is the newest run on its database."""
    risk = risk_of(view.findings)
    severities = [finding.severity for finding in view.findings]
    return Verdict(
        risk=risk,
        tone=risk_tone(risk),
        is_complete=view.plan.details_next is None,
        blocking=severities.count(Severity.BLOCKING),
        warnings=severities.count(Severity.WARNING),
        notes=severities.count(Severity.INFO),
        lock=_longest_lock(view, rehearsal),
        moment=_moment(last, health, opening),
        approvals=f"0 of {requirement.required}" if requirement else "",
    )


def _longest_lock(view: PlanView, rehearsal: RehearsalRecord | None) -> str:
    lock = rehearsal.report.longest_lock() if rehearsal else None
    if lock is not None:
        held = duration_words(lock.held_ms or 0)
        return f"{lock.table} for {held}: {lock_effect(lock)} (rehearsed)"
    forecast = lock_line(
        operation for step in view.plan.steps for operation in step.operations
    )
    return f"{forecast} (forecast)" if forecast else ""


def _moment(
    last: RunRecord | None, health: HealthView | None, opening: OpeningView
) -> Moment:
    if last is not None and last.state is RunState.AWAITING_APPROVAL:
        return Moment(words="A request waits for approval", tone="warning")
    if last is not None and last.is_active:
        return Moment(words=f"A run is {readable(last.state)}", tone="busy")
    if last is not None and last.state is RunState.PARTIAL:
        return Moment(words="Locked: a run stopped partway", tone="bad")
    if opening.is_never:
        return Moment(words="No window opens", tone="bad")
    if opening.at is not None:
        at = date_format(timezone.localtime(opening.at), "D Y-m-d H:i T")
        return Moment(words=f"Not before {at}", tone="warning")
    if health is not None and not health.is_good:
        return Moment(words="A health signal blocks it", tone="warning")
    return Moment(words="Ready", tone="good")
