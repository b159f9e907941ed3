"""The template filters of the pages: text and colors for times, states and records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.template import Library
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.enums import (
    Action,
    EffectState,
    EventKind,
    Phase,
    RunState,
    Severity,
    StepState,
    WaitingReason,
)
from migration_route.core.risk import Risk
from migration_route.core.values import SignalState
from migration_route.ledger.records import EntryRecord, EventRecord, RunRecord, StepRecord
from migration_route.ledger.rehearsals import ObservedLock, ObservedStep, RehearsalRecord
from migration_route.ledger.step_evidence import StepError
from migration_route.planning.plan import Finding, Step, StepPhase
from migration_route.presentation.text.plans import (
    estimate_line,
    expected_line,
    operation_lines,
)
from migration_route.presentation.text.rehearsals import copy_words, queries, took
from migration_route.presentation.text.runs import approval_requirement_words
from migration_route.vendors import vendor_name as vendor_of_alias
from migration_route.web.sql_html import sql_html

register = Library()
register.filter("approval_requirement_words", approval_requirement_words)
register.filter("copy_words", copy_words)
register.filter("estimate_line", estimate_line)
register.filter("expected_line", expected_line)
register.filter("operation_lines", operation_lines)
register.filter("queries", queries)
register.filter("took", took)
register.filter("sql_html", sql_html)

_SECOND = 1000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE

_TONES: dict[str, str] = {
    RunState.SUCCEEDED: "good",
    RunState.NOOP: "good",
    RunState.RESOLVED: "good",
    RunState.FAILED: "bad",
    RunState.PARTIAL: "bad",
    RunState.LOST: "bad",
    RunState.STALE: "warning",
    RunState.REJECTED: "bad",
    RunState.EXPIRED: "warning",
    RunState.AWAITING_APPROVAL: "warning",
    RunState.CANCELLED: "warning",
    RunState.CANCELLING: "warning",
    RunState.WAITING: "warning",
    RunState.PAUSED: "warning",
    RunState.RUNNING: "busy",
    StepState.APPLYING: "busy",
    StepState.APPLIED: "good",
    StepState.REVERTED: "good",
    EffectState.PRESENT: "good",
    SignalState.NORMAL: "good",
    SignalState.STOP: "bad",
    SignalState.UNKNOWN: "warning",
}
"""The color of a state. States with the same name share it: a failed step is as red as a
failed run. Pages always show the state's name as well."""

_ENTRY_TONES: dict[str, str] = {
    Action.DENIED: "bad",
    Action.REFUSED: "warning",
    Action.RESOLVED: "warning",
    Action.APPROVED: "good",
    Action.REJECTED: "bad",
}
_VENDORS = {"postgresql": "PostgreSQL", "mysql": "MySQL or MariaDB", "sqlite": "SQLite"}
_WAITS_FOR: dict[str, str] = {
    WaitingReason.TIME: "scheduled for later",
    WaitingReason.WINDOW: "no window is open",
    WaitingReason.FREEZE: "a freeze is in effect",
    WaitingReason.NO_WORKER: "no worker has claimed it yet",
    WaitingReason.HEALTH: "a health signal blocks it",
    WaitingReason.PAUSED: "on request",
    WaitingReason.BLOCKED: "blocked by another session",
    WaitingReason.LOCK: "another process is migrating this database",
}
_PHASES: dict[Phase | None, str] = {
    None: "all steps",
    Phase.BEFORE_DEPLOY: "before the deploy",
    Phase.AFTER_DEPLOY: "after the deploy",
    Phase.ANY: "before or after the deploy",
}
_DONE = frozenset({StepState.APPLIED, StepState.REVERTED})
_RUN = re.compile(r"[0-9a-f]{32}")


@register.filter
def tone(state: str, default: str = "quiet") -> str:
    """Return the color of a state of a run, step, operation, rehearsal or signal."""
    return _TONES.get(state, default)


_RISK_TONES = {Risk.SAFE: "good", Risk.CAUTION: "warning", Risk.DANGEROUS: "bad"}


@register.filter
def risk_tone(risk: Risk) -> str:
    return _RISK_TONES[risk]


@register.filter
def readable(state: str) -> str:
    """Return a state, an action or a kind with spaces instead of underscores."""
    return state.replace("_", " ")


@register.filter
def vendor_name(vendor: str) -> str:
    return _VENDORS.get(vendor, readable(vendor))


@register.filter
def waits_for(reason: str) -> str:
    """Return what an active run waits for; "" for nothing."""
    return _WAITS_FOR.get(reason, readable(reason))


@register.filter
def phase_words(phase: Phase | None) -> str:
    return _PHASES[phase]


@register.filter
def side_words(phase: StepPhase) -> str:
    """Return the side of a deploy on which a step is safe; "" if it is safe on both."""
    if phase.unsafe:
        return "no safe side of the deploy"
    return "" if phase.phase is Phase.ANY else phase_words(phase.phase)


@register.filter("as_time")
def parse_optional_time(text: str) -> datetime | None:
    """Parse a stored time; None if it is empty."""
    return clock.parse_time(text) if text else None


@register.simple_tag
def time_of(text: str) -> SafeString:
    """Return a stored time in the reader's time zone, with the time in UTC as its title."""
    at = clock.parse_time(text)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        at.isoformat(),
        f"{at:%Y-%m-%d %H:%M:%S}",
        date_format(localtime(at), "Y-m-d H:i:s T"),
    )


@register.simple_tag
def pages_url() -> str:
    """Return the URL of the start page; "" if the project does not mount the pages."""
    with suppress(NoReverseMatch):
        return reverse("migration_route:dashboard")
    return ""


@register.filter
def format_duration(duration: int | timedelta | None) -> str:
    """Format milliseconds. `static/migration_route/route.js` uses the same format."""
    if duration is None:
        return ""
    if isinstance(duration, timedelta):
        milliseconds = round(duration.total_seconds() * _SECOND)
    else:
        milliseconds = duration
    if milliseconds < _SECOND:
        return f"{milliseconds} ms"
    if milliseconds < 10 * _SECOND:
        return f"{milliseconds / _SECOND:.1f} s"
    seconds = round(milliseconds / _SECOND)
    if milliseconds < _MINUTE:
        return f"{seconds} s"
    if milliseconds < _HOUR:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


@register.filter
def elapsed_ms(start: str, end: str) -> int | None:
    """Return the milliseconds between two stored times; None if one is empty."""
    if not (start and end):
        return None
    return round(
        (clock.parse_time(end) - clock.parse_time(start)).total_seconds() * _SECOND
    )


@register.filter
def format_offset(since: str, at: str) -> str:
    """Format the time from `since` to `at` as "+1.24 s"; never negative."""
    seconds = (clock.parse_time(at) - clock.parse_time(since)).total_seconds()
    return f"+{max(seconds, 0):.2f} s"


@register.filter
def as_json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=False, sort_keys=True)


@register.filter
def done_count(steps: Iterable[StepRecord]) -> int:
    """Return how many steps of a run are applied or reverted."""
    return sum(step.state in _DONE for step in steps)


_PLACEHOLDERS = re.compile(r"(?:%s, ){4,}%s")
_ROWS = re.compile(r"(\(%s, …\)|\(%s(?:, %s)*\))(?:, \1){2,}")
_CASES = re.compile(r"(WHEN \([^()]*\) THEN %s )\1{2,}")  # as bulk_update sends them
_LONGEST_STATEMENT = 300


@register.filter
def short_statement(sql: str) -> str:
    """Return a statement without the repetitions of its placeholders, and clipped in the
    middle if it is still long; `static/migration_route/route.js` does the same."""
    text = _PLACEHOLDERS.sub("%s, …", sql)
    text = _ROWS.sub(lambda found: f"{found[1]}, {_count(found)} times", text)
    text = _CASES.sub(lambda found: f"{found[1]}… {_count(found)} times ", text)
    if len(text) <= _LONGEST_STATEMENT:
        return text
    left_out = f"{len(text) - _LONGEST_STATEMENT:,}"
    half = _LONGEST_STATEMENT // 2
    return f"{text[:half]} … ({left_out} characters) … {text[-half:]}"


def _count(repeated: re.Match[str]) -> int:
    return repeated[0].count(repeated[1])


@register.filter
def event_text(event: EventRecord) -> str:
    """Return an event as a line of the log; `static/migration_route/route.js` renders the
    same."""
    match event.kind:
        case EventKind.STATE:
            return f"State: {readable(event.text)}"
        case EventKind.STEP_STARTED:
            return f"{event.text} started"
        case EventKind.STEP_FINISHED:
            return f"{event.text} finished"
        case EventKind.STATEMENT | EventKind.STATEMENT_RUNNING:
            return short_statement(event.text)
        case EventKind.STATEMENTS_OMITTED:
            return f"… and {event.facts.get('count', 'more')} more statements"
        case _:
            return event.text


@register.filter
def entry_tone(action: str) -> str:
    return _ENTRY_TONES.get(action, "quiet")


@register.filter
def entry_summary(entry: EntryRecord) -> str:
    """Return the most informative fact of an entry."""
    facts = entry.facts
    match entry.action:
        case Action.RUN_STATE:
            return readable(str(facts.get("to", "")))
        case Action.STEP_STARTED:
            return str(facts.get("step", ""))
        case Action.STEP_FINISHED:
            return f"{facts.get('step', '')}: {readable(str(facts.get('state', '')))}"
        case Action.DENIED | Action.REFUSED:
            return str(facts.get("message", ""))
        case _:
            return str(facts.get("reason", "") or "")


@register.filter
def is_run_id(text: str) -> bool:
    """Return whether an entry names a run: a denial may name one that does not exist."""
    return _RUN.fullmatch(text) is not None


@register.filter
def worst_severity(step: Step, findings: Iterable[Finding]) -> Severity | None:
    """Return the severity of a step's first finding; `findings` start with the worst."""
    return next((found.severity for found in findings if found.step == step.label), None)


@register.filter
def at(items: Sequence[Any], position: int) -> Any:
    """Return the item at a position; None behind the end."""
    return items[position] if position < len(items) else None


@register.filter
def first_error(run: RunRecord) -> StepError | None:
    """Return the error of the run, or of the step that failed."""
    return run.error or next((step.error for step in run.steps if step.error), None)


@register.filter
def occupies(run: RunRecord | None) -> bool:
    """Return whether no other run can start on its database because of this run."""
    return run is not None and (run.is_active or run.state is RunState.PARTIAL)


_TERMINATING = {
    "postgresql": "SELECT pg_terminate_backend({pid});",
    "mysql": "KILL CONNECTION {pid};",
}


@register.filter
def terminating_sql(pid: int, database: str) -> str:
    """Return the statement that terminates a session; "" if the database has none."""
    return _TERMINATING.get(vendor_of_alias(database), "").format(pid=int(pid))


@register.filter
def lock_patience(database: str) -> timedelta:
    """Return how long a step waits for its locks before the run gives up."""
    return route_settings().database(database).lock_retry_timeout


@register.filter
def findings_in(step: Step, findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings about a step."""
    return [found for found in findings if found.step == step.label]


@register.filter
def step_number(label: str, steps: Iterable[Step]) -> int | None:
    """Return the position of a step in its plan, from 1; None if it is not in the plan."""
    labels = [step.label for step in steps]
    return labels.index(label) + 1 if label in labels else None


@register.filter
def failed_step(run: RunRecord | None, label: str) -> StepRecord | None:
    """Return the step with this label if it failed in this run."""
    steps = run.steps if run else ()
    return next((step for step in steps if step.label == label and step.error), None)


@register.filter
def rehearsed_step(record: RehearsalRecord | None, label: str) -> ObservedStep | None:
    """Return the step with this label as the rehearsal executed it."""
    steps = record.report.steps if record else ()
    found = next((step for step in steps if step.label == label), None)
    return found if found and found.duration_ms is not None else None


@register.filter
def lock_effect(lock: ObservedLock) -> str:
    """Return what a lock blocks."""
    if "reads" in lock.blocks:
        return "blocks reads and writes"
    if "writes" in lock.blocks:
        return "blocks writes"
    return "blocks schema changes" if lock.blocks else "blocks only DROP and rewrites"


@register.filter
def lock_tone(lock: ObservedLock) -> str:
    if "reads" in lock.blocks:
        return "bad"
    return "warning" if "writes" in lock.blocks else "quiet"
