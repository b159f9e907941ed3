"""Output of a verb: lines or JSON, and the progress of a run that is followed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from migration_route.core.enums import EventKind
from migration_route.core.errors import RouteError
from migration_route.presentation import schemas
from migration_route.presentation.text.exit_codes import INTERRUPTED
from migration_route.presentation.text.problems import problem_answer, problem_line
from migration_route.presentation.text.runs import event_line

_PASSING = frozenset({EventKind.PROGRESS})  # only in the live line, if there is one
_SHOWN = _PASSING | {
    EventKind.LOCK_ATTEMPT,
    EventKind.HEALTH,
    EventKind.STATEMENT_RUNNING,
}


class LiveDisplay(Protocol):
    """A line that is updated below the output."""

    def write(self, words: str) -> None:
        """Write above it."""

    def show(self, words: str, *, done: int) -> None:
        """Show what is running and how many steps are done."""


def _no_live_line(steps: int) -> AbstractContextManager[LiveDisplay | None]:
    del steps
    return nullcontext()


@dataclass(slots=True, kw_only=True)
class Terminal:
    """The two outputs of a verb, and the live line of a terminal."""

    command: str  # what a verb is typed after
    output: Callable[[str], Any]  # writes a line to standard output
    errors: Callable[[str], Any]  # writes a line to standard error
    is_json: bool = False
    escape: Callable[[str], str] = str  # makes text from a server safe for a terminal
    paint: Callable[[str], str] = str  # colors a line
    live_line: Callable[[int], AbstractContextManager[LiveDisplay | None]] = _no_live_line
    _live: LiveDisplay | None = field(default=None, init=False)

    def write(self, words: str) -> None:
        line = self.paint(self.escape(words))
        (self.output if self._live is None else self._live.write)(line)

    def write_error(self, words: str) -> None:
        self.errors(self.escape(words))

    def trouble(self, words: str) -> None:
        """Report a problem that is being retried."""
        (self.write_error if self._live is None else self.write)(words)

    def tell(self, raw: bytes, lines: Iterable[str]) -> None:
        """Write the JSON of an answer with `--json`, else the lines."""
        if self.is_json:
            lines = [msgspec.json.format(raw, indent=2).decode()]
        for line in lines:
            self.write(line)

    def tell_problem(self, error: RouteError) -> None:
        problem = problem_answer(error)
        self.tell_error(schemas.to_json(problem), problem_line(problem))

    def tell_error(self, raw: bytes, line: str) -> None:
        """Write the JSON of an error with `--json`, else its line."""
        if self.is_json:
            self.tell(raw, ())
        else:
            self.write_error(line)

    @contextmanager
    def resumable(self, words: str, verb: str) -> Iterator[None]:
        """Print the verb that continues when the block is left by Ctrl-C, which exits, or
        by an error."""
        try:
            yield
        except KeyboardInterrupt:
            self.write_error(f"\n{words}: {self.command} {verb}")
            sys.exit(INTERRUPTED)
        except Exception:
            self.write_error(f"Reconnect with: {self.command} {verb}")
            raise

    @contextmanager
    def following(self, steps: int) -> Iterator[Progress]:
        """Show the progress of a run with so many steps during the block."""
        with nullcontext() if self.is_json else self.live_line(steps) as live:
            self._live = live
            try:
                yield Progress(terminal=self, live=live)
            finally:
                self._live = None


@dataclass(slots=True, kw_only=True)
class Progress:
    """The progress of a run, as it is shown."""

    terminal: Terminal
    live: LiveDisplay | None
    done: int = 0
    step: str = ""
    waits: str = ""

    def tell(self, event: schemas.EventAnswer) -> None:
        """Show one event."""
        if self.terminal.is_json:
            return
        if event.kind == EventKind.STEP_STARTED:
            self.step = event.text
        self.done += event.kind == EventKind.STEP_FINISHED
        is_passing = self.live is not None and event.kind in _PASSING
        if not is_passing and (line := event_line(event)):
            self.terminal.write(line)
        if self.live is not None:
            text = f"{self.step}: {event.text}" if event.kind in _SHOWN else self.step
            self.live.show(text, done=self.done)

    def tell_remaining(self, line: str) -> None:
        """Show the expected duration, if one is known."""
        if line and not self.terminal.is_json:
            self.terminal.write(line)

    def tell_waiting(self, line: str) -> None:
        """Show why the run has not started, once for each reason."""
        if line not in {"", self.waits}:
            self.terminal.write(line)
        self.waits = line
