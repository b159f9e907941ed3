"""What did the worker of a rehearsal say, and what does that make of its steps?

What could a rehearsal not show, and why? Said plainly, in every report.
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
from migration_route.execution.worker.reporter import only_reads
from migration_route.ledger.evidence import StepError
from migration_route.ledger.rehearsals import (
    Limitation,
    ObservedError,
    ObservedOperation,
    ObservedStep,
    RehearsalRecord,
)
from migration_route.vendors import copies_of

_LINES = 100
_MOST_DENIED = 100
_ASKS = frozenset({"gate", "operation_gate", "session_gate", "lock_pause"})


class RehearsalRecorder:
    """Listens to one worker."""

    def __init__(self, steps: tuple[ObservedStep, ...]) -> None:
        self.steps = steps
        self.denied: list[str] = []
        self.unrehearsed: list[Limitation] = []
        self.begun: float | None = None  # when the first step began, by `time.monotonic`
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._current: int | None = None
        self._operation: int | None = None
        self._last: Message | None = None
        self._statement = ""

    @property
    def output(self) -> tuple[str, ...]:
        """Return the last lines that were printed."""
        return tuple(self._lines)

    def hear(self, said: Message | RawOutput) -> bool:
        """Take in what was said; return whether it waits for an answer."""
        if isinstance(said, RawOutput):
            self._lines.append(said.text)
            return False
        match said.kind:
            case "gate":
                self._begin(said)
            case "operation_started" | "operation_gate":
                self._operation = said.operation
            case "statement_started":
                self._statement = said.text
            case "statement":
                self._statement = ""
            case "ended":
                self._last = said
            case _:
                self._take_in(said)
        return said.kind in _ASKS

    def _take_in(self, said: Message) -> None:
        match said.kind:
            case "watched":
                seen = msgspec.convert(
                    said.facts["operations"], tuple[ObservedOperation, ...], strict=False
                )
                self._change(operations=seen)
            case "step_finished":
                self._finish(said)
            case "denied":
                if len(self.denied) < _MOST_DENIED:
                    self.denied.append(said.text)
            case "unrehearsed":
                step = f"{said.app}.{said.name}" if said.app else None
                code = said.facts["code"]
                self.unrehearsed.append(Limitation(code=code, message=said.text, step=step))
            case "output":
                self._lines.append(said.text)

    def _begin(self, said: Message) -> None:
        labels = [step.label for step in self.steps]
        self._current = labels.index(f"{said.app}.{said.name}")
        self._operation = None
        self.begun = self.begun or time.monotonic()
        self._change(state=StepState.APPLYING)

    def _finish(self, said: Message) -> None:
        if self._current is None:
            return
        is_back = self.steps[self._current].direction == Direction.BACKWARDS
        state = StepState.REVERTED if is_back else StepState.APPLIED
        self._change(state=state, duration_ms=said.duration_ms)
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
            at = f" in the middle of: {self._statement[:500]}" if self._statement else ""
            error = StepError(
                type="ProcessDied",
                message=f"The worker ended with status {status}{at}.",
                operation=self._operation,
            )
        return self.failed(error)

    def failed(self, error: StepError) -> StepError:
        """Note that this has stopped the step which was under way; return it."""
        if self._current is not None:
            self._change(state=StepState.FAILED, error=ObservedError(**error.to_dict()))
        return error


_MOST = 20


def of(record: RehearsalRecord, hearing: RehearsalRecorder) -> tuple[Limitation, ...]:
    """Return what this rehearsal could not show."""
    return tuple(_found(record, hearing))


def _found(record: RehearsalRecord, hearing: RehearsalRecorder) -> Iterator[Limitation]:
    if record.in_place:
        yield from _in_place(hearing)
        return
    way = route_settings().database(record.database).rehearse_on
    if way:
        yield Limitation(
            code="another_database",
            message=f"It went over the database {way!r}, which is now where the plan "
            "leads: its rows and sizes are its own.",
        )
    elif record.kind is CopyKind.SCHEMA:
        yield Limitation(
            code="schema_only",
            message="The copy had no rows: how long a step takes, how many rows it touches "
            "and whether the data lets it pass is not shown.",
        )
    if blind := copies_of(record.database).observer().blind:
        yield Limitation(code="locks_not_seen", message=f"Locks were not observed: {blind}")
    for what in list(dict.fromkeys(hearing.denied))[:_MOST]:
        yield Limitation(
            code="denied",
            message=f"A migration wanted to reach {what}. A rehearsal may not.",
        )
    for step in hearing.steps:
        yield from _of_step(step, blind=bool(blind))
    yield Limitation(
        code="nobody_else",
        message="Nobody else was at work in the copy: waiting for locks, queues behind "
        "them, replication and load are not shown.",
    )


def _in_place(hearing: RehearsalRecorder) -> Iterator[Limitation]:
    yield from hearing.unrehearsed
    for what in list(dict.fromkeys(hearing.denied))[:_MOST]:
        yield Limitation(
            code="denied",
            message=f"A migration wanted {what}. A rehearsal in place opens none.",
        )
    for step in hearing.steps:
        yield from _of_step(step, blind=False)
    yield Limitation(
        code="after_the_commit",
        message="Nothing was committed: what comes after that did not run, such as the "
        "receivers of post_migrate, which make permissions and content types.",
    )
    yield Limitation(
        code="one_transaction",
        message="All steps stood in one transaction. A lock that an earlier statement held "
        "already is not told again, each was held to the very end, and now() stood still.",
    )
    yield Limitation(
        code="sequences",
        message="Sequences have gone on, and are not rolled back: numbers that were drawn "
        "stay unused.",
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
            message=f"{len(unseen)} of its statements ran outside of a transaction: their "
            "locks went with them before anybody could look.",
            step=step.label,
        )
    if any(operation.runs_python for operation in step.operations):
        yield Limitation(
            code="ran_python",
            message="It ran Python: what that does outside of the database, such as "
            "files, caches and requests, it has really done. Mails were dropped.",
            step=step.label,
        )
