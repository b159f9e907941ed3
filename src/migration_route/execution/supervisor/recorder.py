"""What did the worker say, and what does that make of the run so far?

How is a run shown that waits for locks of others?

Its row is `waiting`, with who is in the way, from the first pause until a statement has
been sent that did not come back for its limit. One entry when it begins to wait, one
when it goes on; in between the row alone is kept fresh.
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
from migration_route.core.error_texts import without_values
from migration_route.core.errors import DatabaseUnavailable, InvalidState
from migration_route.execution.messages import Failure, Message
from migration_route.execution.supervisor.child import RawOutput
from migration_route.execution.supervisor.outcome import WorkerReport
from migration_route.execution.worker.output import (
    MOST_CHARACTERS,
    MOST_LINES,
    OutputBudget,
)
from migration_route.ledger import runs
from migration_route.ledger.evidence import StepError
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.runs import update_waiting

_SLACK = 0.5  # seconds for the news that a statement's limit was reached


class LockWaitStatus:
    """What the row of one run says of its waiting."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run.id
        self._claim = run.carrier
        self._is_shown = False
        self._goes_on_at: float | None = None  # unless news of a failure comes before

    @property
    def is_paused(self) -> bool:
        """Tell whether the step only waits, and will ask again whether it is to stop."""
        return self._is_shown and self._goes_on_at is None

    def show(self, facts: dict[str, Any]) -> None:
        """Show that the run waits, or what has become of its waiting."""
        self._goes_on_at = None
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
            return  # the next pause tries it again

    def hear(self, said: Message | RawOutput) -> None:
        """Take notice of a statement that is sent, and of a step that is done."""
        if not self._is_shown or not isinstance(said, Message):
            return
        if said.kind == "lock_fired":
            self._goes_on_at = time.monotonic() + (said.duration_ms or 0) / 1000 + _SLACK
        elif said.kind == "step_finished":
            self._goes_on_at = time.monotonic()
            self.look()

    def look(self) -> None:
        """Show that the run goes on, once its statement must have had its locks."""
        if self._goes_on_at is None or time.monotonic() < self._goes_on_at:
            return
        try:
            self._move(RunState.RUNNING, RunState.WAITING, runs.Change(claim=self._claim))
        except (DatabaseFailure, DatabaseUnavailable):
            return
        self._is_shown, self._goes_on_at = False, None

    def _move(self, to: RunState, expected: RunState, change: runs.Change) -> None:
        try:
            runs.move(self._run, to=to, expected={expected}, change=change)
        except InvalidState:
            return  # somebody has cancelled it: the next question is answered so


def describe_attempt(facts: dict[str, Any]) -> str:
    """Say an attempt in one line."""
    tables = ", ".join(facts["tables"]) or "what the statement needs"
    what = "was sent and timed out" if facts["fired"] else "is held back"
    blockers = facts["blockers"]
    named = ", ".join(
        f"pid {blocker['pid']} ({blocker['user'] or 'unknown'})" for blocker in blockers[:3]
    )
    more = f" and {len(blockers) - 3} more" if len(blockers) > 3 else ""
    return (
        f"Attempt {facts['attempt']} on {tables} {what}: "
        f"{named + more or 'nobody to be seen'} in the way"
    )


_MOST_TEXT = 10_000_000  # characters of statements and operations of one run
_SHORTENED = 200  # characters of each of them beyond that
_SLOW = 1.0  # seconds after which a statement is shown while it still runs


class EventRecorder:
    """Turns what a worker says into events, and keeps what the verdict needs."""

    def __init__(self, journal: RunLog) -> None:
        self._journal = journal
        self.told = WorkerReport(ending=None)
        self._operation: int | None = None
        self._statement: tuple[float, Message] | None = None
        self._attempts: dict[str, Any] = {}
        self._budget = OutputBudget()
        self._text = 0  # characters of statements and operations so far

    def begin_step(self, position: int, at: str) -> None:
        """Write down that a step is about to begin."""
        step = self._journal.steps[position]
        self.told = WorkerReport(ending=None, current=position)
        self._attempts = {}
        self._journal.event(
            EventKind.STEP_STARTED,
            at=at,
            step=position,
            text=step.label,
            facts={"direction": step.direction},
        )
        self._journal.step(position, StepState.APPLYING)

    def pass_operation(self, said: Message) -> None:
        """Write down that an operation of the step is about to begin, or to return."""
        position = self.told.current
        if position is None:
            return
        self._journal.progress(
            position, begun=said.count, returned=said.returned, added=said.added
        )
        if said.returned:
            self._operation_finished(said)
            return
        self.told = replace(self.told, carried_out=False)
        self._operation = said.operation
        self._event(EventKind.OPERATION_STARTED, said)

    def hear(self, said: Message | RawOutput) -> None:
        """Write down what was said."""
        if isinstance(said, RawOutput):
            self._output(said.text, said.stream, None)
            return
        if handler := self._handlers().get(said.kind):
            handler(said)

    def _handlers(self) -> dict[str, Callable[[Message], None]]:
        return {
            "step_finished": self._step_finished,
            "operation_started": self._operation_started,
            "operation_finished": self._operation_finished,
            "statement_started": self._statement_started,
            "statement": self._statement_finished,
            "statements_omitted": self._statements_omitted,
            "lock_attempt": self._lock_attempt,
            "touching": self._touching,
            "wrote": self._wrote,
            "index_dropped": self._index_dropped,
            "output": lambda said: self._output(said.text, said.stream, said.at),
            "ended": self._ended,
        }

    def _step_finished(self, said: Message) -> None:
        position = self.told.current
        if position is None:
            return
        step = self._journal.steps[position]
        backwards = step.direction is Direction.BACKWARDS
        self._journal.event(
            EventKind.STEP_FINISHED,
            at=said.at,
            step=position,
            duration_ms=said.duration_ms,
            text=step.label,
        )
        self._journal.step(
            position,
            StepState.REVERTED if backwards else StepState.APPLIED,
            duration_ms=said.duration_ms,
            **self.attempts,
        )
        self.told = WorkerReport(ending=None)
        self._operation = None

    def _operation_started(self, said: Message) -> None:
        self._operation = said.operation
        self._event(EventKind.OPERATION_STARTED, said)

    def _operation_finished(self, said: Message) -> None:
        self._event(EventKind.OPERATION_FINISHED, said)
        self._operation = None

    def _statement_started(self, said: Message) -> None:
        self._statement = (time.monotonic(), said)

    def _statement_finished(self, said: Message) -> None:
        self._statement = None
        self._event(EventKind.STATEMENT, said)

    def _statements_omitted(self, said: Message) -> None:
        self._event(EventKind.STATEMENTS_OMITTED, said, count=said.count)

    @property
    def attempts(self) -> dict[str, Any]:
        """Return what the locks of the step have cost, if there was anybody in the way."""
        return dict(self._attempts)

    def _lock_attempt(self, said: Message) -> None:
        facts = said.facts
        self._attempts = {
            "attempts": facts["attempt"],
            "stalled_ms": facts["stalled_ms"],
            "waited_ms": facts["waited_ms"],
        }
        self._journal.event(
            EventKind.LOCK_ATTEMPT,
            at=said.at,
            step=self.told.current,
            operation=said.operation,
            text=describe_attempt(facts),
            facts=facts,
        )

    def _index_dropped(self, said: Message) -> None:
        self._event(EventKind.INDEX_DROPPED, said)
        self._journal.entry(Action.INDEX_DROPPED, {"sql": said.text})

    def _touching(self, said: Message) -> None:
        del said
        self.told = replace(self.told, touching=True)

    def _wrote(self, said: Message) -> None:
        del said
        self.told = replace(self.told, wrote=True, carried_out=True)

    def _output(self, text: str, stream: str, at: str | None) -> None:
        """Record a line; the one that exceeds the budget becomes the note that output is
        left out, and the lines after it nothing."""
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
        self._journal.event(
            kind,
            at=at,
            step=self.told.current,
            operation=self._operation,
            text=text,
            facts=facts,
        )

    def _ended(self, said: Message) -> None:
        self._statement = None
        error = None
        if said.failure is not None:
            error = self._error(said.failure)
            self._journal.event(
                EventKind.ERROR,
                at=said.at,
                step=self.told.current,
                operation=error.operation,
                text=error.message,
                facts={
                    "type": said.failure.type,
                    "sqlstate": said.failure.sqlstate,
                    "traceback": said.failure.traceback,
                },
            )
        self.told = replace(self.told, ending=said.ending, error=error)

    def _error(self, failure: Failure) -> StepError:
        under_way = self.told.current is not None
        return StepError(
            type=failure.type,
            message=failure.message,
            operation=self._operation if under_way else None,
            sqlstate=failure.sqlstate,
        )

    def died(self, status: int | None) -> None:
        """Write down that the worker went without a word."""
        if status is not None and status < 0:
            how = f"was killed by signal {-status}"
        else:
            how = f"exited with status {status}"
        error = StepError(
            type="WorkerDied",
            message=f"The worker {how} before it had finished.",
            operation=self._operation if self.told.current is not None else None,
        )
        self._journal.event(
            EventKind.ERROR,
            step=self.told.current,
            text=error.message,
            facts={"status": status},
        )
        self.told = replace(self.told, error=error)

    def show_slow_statement(self) -> None:
        """Write down a statement that has been running for a second, while it runs."""
        if self._statement is None:
            return
        since, said = self._statement
        if time.monotonic() - since > _SLOW:
            self._event(EventKind.STATEMENT_RUNNING, said)
            self._statement = None

    def _event(self, kind: EventKind, said: Message, **facts: int) -> None:
        self._journal.event(
            kind,
            at=said.at,
            step=self.told.current,
            operation=said.operation,
            duration_ms=said.duration_ms,
            text=self._bounded(said.text),
            facts=dict(facts),
        )

    def _bounded(self, text: str) -> str:
        """Return a text of the worker, shortened once the run has recorded too much."""
        self._text += len(text)
        if self._text <= _MOST_TEXT or len(text) <= _SHORTENED:
            return text
        return f"{text[:_SHORTENED]}…"
