"""Records what the worker of a rehearsal reports of its steps, and what the rehearsal could
not show; every report lists these limitations.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from migration_route.conf import route_settings
from migration_route.core.enums import CopyKind, Direction, StepState
from migration_route.execution.messages import Message
from migration_route.execution.supervisor.child import RawOutput
from migration_route.ledger.rehearsals import (
    Limitation,
    ObservedOperation,
    ObservedStep,
    RehearsalRecord,
)
from migration_route.ledger.step_evidence import StepError
from migration_route.vendors import copies_of
from migration_route.vendors.sql_statements import only_reads

_LINES = 100
_MOST_DENIED = 100
_QUESTIONS = frozenset({"gate", "operation_gate", "session_gate", "lock_pause"})


class RehearsalRecorder:
    """Collects the messages of one worker."""

    def __init__(self, steps: tuple[ObservedStep, ...]) -> None:
        self.steps = steps
        self.denied: list[str] = []
        self.unrehearsed: list[Limitation] = []
        self.begun: float | None = None  # when the first step started, by `time.monotonic`
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._current: int | None = None
        self._operation: int | None = None
        self._last: Message | None = None
        self._statement = ""

    @property
    def output(self) -> tuple[str, ...]:
        """The last printed lines."""
        return tuple(self._lines)

    def hear(self, message: Message | RawOutput) -> bool:
        """Record a message; return whether it waits for an answer."""
        if isinstance(message, RawOutput):
            self._lines.append(message.text)
            return False
        match message.kind:
            case "gate":
                self._begin(message)
            case "operation_started" | "operation_gate":
                self._operation = message.operation
            case "statement_started":
                self._statement = message.text
            case "statement":
                self._statement = ""
            case "ended":
                self._last = message
            case _:
                self._record(message)
        return message.kind in _QUESTIONS

    def _record(self, message: Message) -> None:
        match message.kind:
            case "watched":
                seen = msgspec.convert(
                    message.facts["operations"], tuple[ObservedOperation, ...], strict=False
                )
                differs = tuple(message.facts["differences"])
                self._change(operations=seen, sql_differences=differs)
            case "step_finished":
                self._finish(message)
            case "denied":
                if len(self.denied) < _MOST_DENIED:
                    self.denied.append(message.text)
            case "unrehearsed":
                step = f"{message.app}.{message.name}" if message.app else None
                code = message.facts["code"]
                self.unrehearsed.append(
                    Limitation(code=code, message=message.text, step=step)
                )
            case "output":
                self._lines.append(message.text)

    def _begin(self, message: Message) -> None:
        labels = [step.label for step in self.steps]
        self._current = labels.index(f"{message.app}.{message.name}")
        self._operation = None
        self.begun = self.begun or time.monotonic()
        self._change(state=StepState.APPLYING)

    def _finish(self, message: Message) -> None:
        if self._current is None:
            return
        is_back = self.steps[self._current].direction == Direction.BACKWARDS
        state = StepState.REVERTED if is_back else StepState.APPLIED
        self._change(state=state, duration_ms=message.duration_ms)
        self._current = None

    def _change(self, **changes: object) -> None:
        if self._current is not None:
            steps = list(self.steps)
            steps[self._current] = replace(steps[self._current], **changes)  # type: ignore[arg-type]
            self.steps = tuple(steps)

    def ended(self, status: int) -> StepError | None:
        """Return what stopped the worker, which ended with that status; None: nothing."""
        last = self._last
        if last is not None and last.ending == "done":
            return None
        if last is not None and last.failure is not None:
            error = StepError(
                type=last.failure.type,
                message=last.failure.message,
                operation=self._operation,
                sqlstate=last.failure.sqlstate,
            )
        else:
            at = f" while executing: {self._statement[:500]}" if self._statement else ""
            error = StepError(
                type="ProcessDied",
                message=f"The worker ended with status {status}{at}.",
                operation=self._operation,
            )
        return self.failed(error)

    def failed(self, error: StepError) -> StepError:
        """Mark the step under way as failed with this error; return it."""
        if self._current is not None:
            self._change(state=StepState.FAILED, error=error)
        return error


_MAX_DENIED_SHOWN = 20


def limitations_of(
    record: RehearsalRecord, observed: RehearsalRecorder
) -> tuple[Limitation, ...]:
    return tuple(_limitations(record, observed))


def _limitations(
    record: RehearsalRecord, observed: RehearsalRecorder
) -> Iterator[Limitation]:
    if record.in_place:
        yield from _in_place(observed)
        return
    way = route_settings().database(record.database).rehearsal_alias
    if way:
        yield Limitation(
            code="another_database",
            message=f"It changed the database {way!r}, which keeps the result. Row counts "
            "and sizes are those of that database.",
        )
    elif record.kind is CopyKind.SCHEMA:
        yield Limitation(
            code="schema_only",
            message="The copy had no rows: durations, row counts and failures caused by "
            "the data are not shown.",
        )
    if blind := copies_of(record.database).observer().blind:
        yield Limitation(code="locks_not_seen", message=f"Locks were not observed: {blind}")
    for what in list(dict.fromkeys(observed.denied))[:_MAX_DENIED_SHOWN]:
        yield Limitation(
            code="denied",
            message=f"A migration tried to access {what}. A rehearsal must not.",
        )
    for step in observed.steps:
        yield from _of_step(step, blind=bool(blind))
    yield Limitation(
        code="nobody_else",
        message="No other session used the copy: lock waits, the queues behind them, "
        "replication and load are not shown.",
    )


def _in_place(observed: RehearsalRecorder) -> Iterator[Limitation]:
    yield from observed.unrehearsed
    for what in list(dict.fromkeys(observed.denied))[:_MAX_DENIED_SHOWN]:
        yield Limitation(
            code="denied",
            message=f"A migration requested {what}. A rehearsal in place opens none.",
        )
    for step in observed.steps:
        yield from _of_step(step, blind=False)
    yield Limitation(
        code="after_the_commit",
        message="Nothing was committed, so what follows a commit did not run, such as the "
        "receivers of post_migrate, which create permissions and content types.",
    )
    yield Limitation(
        code="one_transaction",
        message="All steps ran in one transaction. A lock that an earlier statement "
        "already held is not reported again, every lock was held to the end, and now() "
        "did not change.",
    )
    yield Limitation(
        code="sequences",
        message="Sequences are not rolled back: the numbers that were drawn stay unused.",
    )


def _of_step(step: ObservedStep, *, blind: bool) -> Iterator[Limitation]:
    unseen = [
        statement
        for operation in step.operations
        for statement in operation.statements
        if statement.locks is None
        and not statement.failed
        and not only_reads(statement.sql)
    ]
    if unseen and not blind:
        yield Limitation(
            code="locks_outside_of_a_transaction",
            message=f"{len(unseen)} of its statements ran outside a transaction: their "
            "locks were released before they could be observed.",
            step=step.label,
        )
    if any(operation.runs_python for operation in step.operations):
        yield Limitation(
            code="ran_python",
            message="It ran Python code. Its effects outside the database, such as on "
            "files, caches and remote services, are real. Emails were dropped.",
            step=step.label,
        )
