"""What did the worker of a rehearsal say, and what does that make of its steps?"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace

import msgspec

from migration_route.ledger.evidence import StepError
from migration_route.ledger.rehearsal_report import (
    Limit,
    SeenError,
    SeenOperation,
    SeenStep,
)
from migration_route.running.child import Spoken
from migration_route.running.messages import Message
from migration_route.vocabulary import Direction, StepState

_LINES = 100
_ASKS = frozenset({"gate", "operation_gate", "session_gate", "lock_pause"})


class Hearing:
    """Listens to one worker."""

    def __init__(self, steps: tuple[SeenStep, ...]) -> None:
        self.steps = steps
        self.denied: list[str] = []
        self.unrehearsed: list[Limit] = []
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

    def hear(self, said: Message | Spoken) -> bool:
        """Take in what was said; return whether it waits for an answer."""
        if isinstance(said, Spoken):
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
                    said.facts["operations"], tuple[SeenOperation, ...], strict=False
                )
                self._change(operations=seen)
            case "step_finished":
                self._finish(said)
            case "denied":
                self.denied.append(said.text)
            case "unrehearsed":
                step = f"{said.app}.{said.name}" if said.app else None
                code = said.facts["code"]
                self.unrehearsed.append(Limit(code=code, message=said.text, step=step))
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
            self._change(state=StepState.FAILED, error=SeenError(**error.to_dict()))
        return error
