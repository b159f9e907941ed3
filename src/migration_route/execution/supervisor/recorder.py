"""Records what the worker reports, as events of the run and as the facts for its outcome,
and the time that the run waits for locks.

A run that waits for locks is `waiting`, with its blockers, from the first pause until a
statement was sent that did not come back within its limit. The ledger gets one entry when
the wait starts and one when it ends; in between only the row is updated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.core.enums import (
    Action,
    Direction,
    EventKind,
    RunState,
    StepState,
    WaitingReason,
)
from migration_route.core.errors import DatabaseUnavailable, InvalidState
from migration_route.core.progress import Throttle, progress_words
from migration_route.core.redaction import without_values
from migration_route.execution.messages import Message, WorkerFailure
from migration_route.execution.supervisor.child import RawOutput
from migration_route.execution.supervisor.outcome import WorkerReport
from migration_route.execution.worker.output import (
    MOST_CHARACTERS,
    MOST_LINES,
    OutputBudget,
)
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.runs import update_waiting
from migration_route.ledger.step_evidence import StepError
from migration_route.vendors.base import StatementProgress

_SLACK = 0.5  # seconds for the message that a statement reached its limit


class LockWaitStatus:
    """The lock wait of one run, as its row shows it."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run.id
        self._claim = run.claimed_by
        self._is_shown = False
        self._continues_at: float | None = None  # unless a failure is reported before

    @property
    def is_paused(self) -> bool:
        """Whether the step only waits, and will ask again whether it is to stop."""
        return self._is_shown and self._continues_at is None

    def show(self, facts: dict[str, Any]) -> None:
        """Show that the run waits, or update the facts of the wait."""
        self._continues_at = None
        try:
            if self._is_shown:
                update_waiting(self._run, self._claim, facts)
                return
            change = runs.Change(
                waiting_reason=WaitingReason.BLOCKED,
                waiting_facts=facts,
                claim=self._claim,
            )
            self._move(RunState.WAITING, RunState.RUNNING, change)
            self._is_shown = True
        except (DatabaseFailure, DatabaseUnavailable):
            return  # retried at the next pause

    def hear(self, message: Message | RawOutput) -> None:
        """Note that a statement was sent, or that a step is done."""
        if not self._is_shown or not isinstance(message, Message):
            return
        if message.kind == "lock_fired":
            self._continues_at = (
                time.monotonic() + (message.duration_ms or 0) / 1000 + _SLACK
            )
        elif message.kind == "step_finished":
            self._continues_at = time.monotonic()
            self.look()

    def look(self) -> None:
        """Show that the run continues, once its statement must have its locks."""
        if self._continues_at is None or time.monotonic() < self._continues_at:
            return
        try:
            self._move(RunState.RUNNING, RunState.WAITING, runs.Change(claim=self._claim))
        except (DatabaseFailure, DatabaseUnavailable):
            return
        self._is_shown, self._continues_at = False, None

    def _move(self, to: RunState, expected: RunState, change: runs.Change) -> None:
        try:
            runs.move(self._run, to=to, expected={expected}, change=change)
        except InvalidState:
            return  # it was cancelled: the answer to the next question says so


def describe_attempt(facts: dict[str, Any]) -> str:
    """Describe a lock attempt in one line."""
    tables = ", ".join(facts["tables"]) or "unknown tables"
    what = "timed out" if facts["fired"] else "was not sent"
    blockers = facts["blockers"]
    names = ", ".join(
        f"pid {blocker['pid']} ({blocker['user'] or 'unknown'})" for blocker in blockers[:3]
    )
    more = f" and {len(blockers) - 3} more" if len(blockers) > 3 else ""
    why = f"blocked by {names}{more}" if names else "no blocking session was visible"
    return f"Attempt {facts['attempt']} on {tables} {what}: {why}"


_MOST_TEXT = 10_000_000  # characters of statements and operations of one run
_SHORTENED = 200  # characters of each of them beyond that
_SLOW = 1.0  # seconds after which a statement is shown while it still runs


class EventRecorder:
    """Turns the messages of a worker into events, and keeps what the outcome needs."""

    def __init__(self, run_log: RunLog) -> None:
        self._run_log = run_log
        self.report = WorkerReport(ending=None)
        self._operation: int | None = None
        self._statement: tuple[float, Message] | None = None
        self._attempts: dict[str, Any] = {}
        self._budget = OutputBudget()
        self._text = 0  # characters of statements and operations so far
        self._slow: Message | None = None  # the statement that runs for a second or more
        self._throttle = Throttle()  # of its progress

    def begin_step(self, position: int, at: str) -> None:
        step = self._run_log.steps[position]
        self.report = WorkerReport(ending=None, current=position)
        self._attempts = {}
        self._run_log.event(
            EventKind.STEP_STARTED,
            at=at,
            step=position,
            text=step.label,
            facts={"direction": step.direction},
        )
        self._run_log.step(position, StepState.APPLYING)

    def pass_operation(self, message: Message) -> None:
        """Record that an operation of the step is about to start, or to return."""
        position = self.report.current
        if position is None:
            return
        self._run_log.progress(
            position, begun=message.count, returned=message.returned, added=message.added
        )
        if message.returned:
            self._operation_finished(message)
            return
        self._learn(carried_out=False)
        self._operation_started(message)

    def hear(self, message: Message | RawOutput) -> None:
        if isinstance(message, RawOutput):
            self._output(message.text, message.stream, None)
            return
        if handler := self._handlers().get(message.kind):
            handler(message)

    def _handlers(self) -> dict[str, Callable[[Message], None]]:
        return {
            "step_finished": self._step_finished,
            "operation_started": self._operation_started,
            "operation_finished": self._operation_finished,
            "statement_started": self._statement_started,
            "statement": self._statement_finished,
            "statements_omitted": lambda message: self._event(
                EventKind.STATEMENTS_OMITTED, message, count=message.count
            ),
            "progress": lambda message: self._progress(
                message.count, message.facts.get("total"), at=message.at
            ),
            "lock_attempt": self._lock_attempt,
            "touching": lambda _: self._learn(touching=True),
            "wrote": lambda _: self._learn(wrote=True, carried_out=True),
            "index_dropped": self._index_dropped,
            "output": lambda message: self._output(
                message.text, message.stream, message.at
            ),
            "ended": self._ended,
        }

    def _step_finished(self, message: Message) -> None:
        position = self.report.current
        if position is None:
            return
        step = self._run_log.steps[position]
        backwards = step.direction is Direction.BACKWARDS
        self._run_log.event(
            EventKind.STEP_FINISHED,
            at=message.at,
            step=position,
            duration_ms=message.duration_ms,
            text=step.label,
        )
        self._run_log.step(
            position,
            StepState.REVERTED if backwards else StepState.APPLIED,
            duration_ms=message.duration_ms,
            **self.attempts,
        )
        self.report = WorkerReport(ending=None)
        self._operation = None

    def _operation_started(self, message: Message) -> None:
        self._operation = message.operation
        self._event(EventKind.OPERATION_STARTED, message)

    def _operation_finished(self, message: Message) -> None:
        self._event(EventKind.OPERATION_FINISHED, message)
        self._operation = None

    def _statement_started(self, message: Message) -> None:
        self._statement = (time.monotonic(), message)

    def _statement_finished(self, message: Message) -> None:
        self._statement = self._slow = None
        self._event(EventKind.STATEMENT, message)

    @property
    def attempts(self) -> dict[str, Any]:
        """The cost of the lock attempts of the step; empty if none was blocked."""
        return dict(self._attempts)

    def _lock_attempt(self, message: Message) -> None:
        facts = message.facts
        self._attempts = {
            "attempts": facts["attempt"],
            "blocking_ms": facts["blocking_ms"],
            "waited_ms": facts["waited_ms"],
        }
        self._run_log.event(
            EventKind.LOCK_ATTEMPT,
            at=message.at,
            step=self.report.current,
            operation=message.operation,
            text=describe_attempt(facts),
            facts=facts,
        )

    def _index_dropped(self, message: Message) -> None:
        self._event(EventKind.INDEX_DROPPED, message)
        self._run_log.entry(Action.INDEX_DROPPED, {"sql": message.text})

    def _learn(self, **facts: Any) -> None:
        self.report = replace(self.report, **facts)

    def _output(self, text: str, stream: str, at: str | None) -> None:
        """Record a line. The line that exceeds the budget is replaced by a note; the lines
        after it are dropped."""
        if self._budget.is_spent:
            return
        kind, facts = EventKind.OUTPUT, {"stream": stream}
        if not self._budget.admits(text):
            kind, facts = EventKind.OUTPUT_TRUNCATED, {}
            text = (
                f"Output truncated: a run records {MOST_LINES} lines and "
                f"{MOST_CHARACTERS} characters of output at most."
            )
        elif not route_settings().record_error_detail:
            text = without_values(text)
        self._run_log.event(
            kind,
            at=at,
            step=self.report.current,
            operation=self._operation,
            text=text,
            facts=facts,
        )

    def _ended(self, message: Message) -> None:
        self._statement = self._slow = None
        error = None
        if message.failure is not None:
            error = self._error(message.failure)
            self._run_log.event(
                EventKind.ERROR,
                at=message.at,
                step=self.report.current,
                operation=error.operation,
                text=error.message,
                facts={
                    "type": message.failure.type,
                    "sqlstate": message.failure.sqlstate,
                    "traceback": message.failure.traceback,
                },
            )
        self._learn(ending=message.ending, error=error)

    def _error(self, failure: WorkerFailure) -> StepError:
        under_way = self.report.current is not None
        return StepError(
            type=failure.type,
            message=failure.message,
            operation=self._operation if under_way else None,
            sqlstate=failure.sqlstate,
        )

    def died(self, status: int | None) -> None:
        """Record that the worker ended without a last message."""
        if status is not None and status < 0:
            how = f"was killed by signal {-status}"
        else:
            how = f"exited with status {status}"
        error = StepError(
            type="WorkerDied",
            message=f"The worker {how} before it had finished.",
            operation=self._operation if self.report.current is not None else None,
        )
        self._run_log.event(
            EventKind.ERROR,
            step=self.report.current,
            text=error.message,
            facts={"status": status},
        )
        self._learn(error=error)

    def show_slow_statement(self) -> None:
        """Record a statement that has been running for a second, while it still runs."""
        if self._statement is None:
            return
        since, message = self._statement
        if time.monotonic() - since > _SLOW:
            self._event(EventKind.STATEMENT_RUNNING, message)
            self._statement, self._slow = None, message
            self._throttle.restart()

    def show_statement_progress(self, read: Callable[[], StatementProgress | None]) -> None:
        """Record how far the slow statement is, as the database reports it."""
        if self._slow is None or not self._throttle.is_due():
            return
        try:
            found = read()
        except DatabaseFailure:
            return  # read again when it is due
        if found is not None:
            self._progress(found.done, found.total, unit=found.unit, phase=found.phase)

    def _progress(
        self,
        done: int,
        total: int | None,
        *,
        unit: str = "",
        phase: str = "",
        at: str | None = None,
    ) -> None:
        words = progress_words(done, total, unit)
        self._run_log.event(
            EventKind.PROGRESS,
            at=at,
            step=self.report.current,
            operation=self._operation,
            text=f"{phase}: {words}" if phase else words,
            facts={"done": done, "total": total, "unit": unit, "phase": phase},
        )

    def _event(self, kind: EventKind, message: Message, **facts: int) -> None:
        self._run_log.event(
            kind,
            at=message.at,
            step=self.report.current,
            operation=message.operation,
            duration_ms=message.duration_ms,
            text=self._bounded(message.text),
            facts=dict(facts),
        )

    def _bounded(self, text: str) -> str:
        """Return a text of the worker, shortened once the run has recorded too much."""
        self._text += len(text)
        if self._text <= _MOST_TEXT or len(text) <= _SHORTENED:
            return text
        return f"{text[:_SHORTENED]}…"
