"""What did the worker say, and what does that make of the run so far?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from migration_route.conf import route_settings
from migration_route.error_texts import without_values
from migration_route.ledger.journal import Journal
from migration_route.ledger.records import StepError
from migration_route.running.child import Spoken
from migration_route.running.messages import Failure, Message
from migration_route.running.supervision.verdict import Told
from migration_route.running.supervision.waiting import attempt_line
from migration_route.running.work.output import MOST_CHARACTERS, MOST_LINES, OutputBudget
from migration_route.vocabulary import Action, Direction, EventKind, StepState

_MOST_TEXT = 10_000_000  # characters of statements and operations of one run
_SHORTENED = 200  # characters of each of them beyond that
_SLOW = 1.0  # seconds after which a statement is shown while it still runs


class Transcript:
    """Turns what a worker says into events, and keeps what the verdict needs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.told = Told(ending=None)
        self._operation: int | None = None
        self._statement: tuple[float, Message] | None = None
        self._attempts: dict[str, Any] = {}
        self._budget = OutputBudget()
        self._text = 0  # characters of statements and operations so far

    def begin_step(self, position: int, at: str) -> None:
        """Write down that a step is about to begin."""
        step = self._journal.steps[position]
        self.told = Told(ending=None, current=position)
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

    def hear(self, said: Message | Spoken) -> None:
        """Write down what was said."""
        if isinstance(said, Spoken):
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
        self.told = Told(ending=None)
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
            text=attempt_line(facts),
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
