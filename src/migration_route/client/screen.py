"""Where do the words of a verb go, and how is a run shown while it is at work?

Lines in a pipe; on a terminal, and where `rich` is installed, the same lines above one
that is alive.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from migration_route.rendering.terminal import Terminal
from migration_route.rendering.text import event_line
from migration_route.vocabulary import EventKind
from migration_route.wire import EventAnswer, RunAnswer

_CONTROL = {
    number: f"\\u{number:04x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if chr(number) not in "\n\t"
}
_SHOWN = frozenset({EventKind.LOCK_ATTEMPT, EventKind.HEALTH, EventKind.STATEMENT_RUNNING})


class Live(Protocol):
    """A line that is alive below what was written."""

    def write(self, words: str) -> None:
        """Write above it."""

    def show(self, words: str, *, done: int) -> None:
        """Say what is under way, and how many steps are done."""


def harmless(words: str) -> str:
    """Return text that a database or a migration has a part in, without what a terminal
    would obey. JSON stays JSON, and says the same."""
    return words.translate(_CONTROL)


@dataclass(slots=True, kw_only=True)
class Screen:
    """The standard output, the standard error, and what is alive on a terminal."""

    is_json: bool = False
    _live: Live | None = field(default=None, init=False)

    @property
    def terminal(self) -> Terminal:
        """Return where answers are told."""
        return Terminal(write=self.write, write_error=self.write_error)

    def write(self, words: str) -> None:
        """Write to the standard output."""
        if self._live is not None:
            self._live.write(harmless(words))
            return
        sys.stdout.write(harmless(words) + "\n")
        sys.stdout.flush()

    def write_error(self, words: str) -> None:
        """Write to the standard error."""
        sys.stderr.write(harmless(words) + "\n")
        sys.stderr.flush()

    def trouble(self, words: str) -> None:
        """Say what is wrong, and passes."""
        if self._live is not None:
            self.write(words)
        else:
            self.write_error(words)

    @contextmanager
    def following(self, run: RunAnswer) -> Iterator[Following]:
        """Show a run while it is at work."""
        with self._live_line(len(run.steps)) as live:
            self._live = live
            try:
                yield Following(screen=self, live=live)
            finally:
                self._live = None

    def _live_line(self, steps: int) -> AbstractContextManager[Live | None]:
        if self.is_json or not sys.stdout.isatty():
            return nullcontext()
        try:
            from migration_route.client.live import live_line
        except ImportError:  # the extra [cli] is not installed
            return nullcontext()
        return live_line(steps)


@dataclass(slots=True, kw_only=True)
class Following:
    """What is shown of the events of a run."""

    screen: Screen
    live: Live | None
    done: int = 0
    step: str = ""

    def tell(self, event: EventAnswer) -> None:
        """Show one event, as the command does."""
        if self.screen.is_json:
            return
        if event.kind == EventKind.STEP_STARTED:
            self.step = event.text
        self.done += event.kind == EventKind.STEP_FINISHED
        if (line := event_line(event)) is not None:
            self.screen.write(line)
        if self.live is not None:
            words = f"{self.step}: {event.text}" if event.kind in _SHOWN else self.step
            self.live.show(words, done=self.done)
