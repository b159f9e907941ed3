"""Where do the words of a verb go, and how is a run shown while it is at work?

Lines in a pipe; on a terminal, and where `rich` is installed, the same lines above one
that is alive.

How is a run followed to its end from afar?

By asking for what is new, less often while nothing is. Whoever follows can go: the run is
at work on the server.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from migration_route.cli.remote.client import Answered, RouteClient
from migration_route.core.enums import EventKind, RunState
from migration_route.presentation.schemas import EventAnswer, EventsAnswer, RunAnswer
from migration_route.presentation.text.exit_codes import INTERRUPTED, exit_of_run
from migration_route.presentation.text.runs import event_line, run_lines
from migration_route.presentation.text.terminal import Terminal

_CONTROL = {
    number: f"\\u{number:04x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if chr(number) not in "\n\t"
}
_SHOWN = frozenset({EventKind.LOCK_ATTEMPT, EventKind.HEALTH, EventKind.STATEMENT_RUNNING})


class LiveDisplay(Protocol):
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
class Console:
    """The standard output, the standard error, and what is alive on a terminal."""

    is_json: bool = False
    _live: LiveDisplay | None = field(default=None, init=False)

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

    def _live_line(self, steps: int) -> AbstractContextManager[LiveDisplay | None]:
        if self.is_json or not sys.stdout.isatty():
            return nullcontext()
        try:
            from migration_route.cli.remote.live import live_line
        except ImportError:  # the extra [cli] is not installed
            return nullcontext()
        return live_line(steps)


@dataclass(slots=True, kw_only=True)
class Following:
    """What is shown of the events of a run."""

    screen: Console
    live: LiveDisplay | None
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


_SHORTEST = 0.3
_LONGEST = 3.0
_PAGE = 500


def follow(
    route: RouteClient, screen: Console, options: dict[str, Any], run: RunAnswer
) -> int:
    """Tell what happens until the run has ended; return the exit code of its end.

    Ctrl-C ends the following and not the run.
    """
    with going(screen, "The run goes on; watch it with", f"watch {run.id}"):
        _tell_events(route, screen, run)
        found = route.get(f"runs/{run.id}", RunAnswer)
    return tell_run(screen, options, found)


@contextmanager
def going(screen: Console, words: str, verb: str) -> Iterator[None]:
    """Say how to come back when this is left: by Ctrl-C, which ends the client here, or
    because the route is asked in vain."""
    try:
        yield
    except KeyboardInterrupt:
        screen.write_error(f"\n{words}: migration-route {verb}")
        sys.exit(INTERRUPTED)
    except Exception:
        screen.write_error(f"Come back to it with: migration-route {verb}")
        raise


def tell_run(screen: Console, options: dict[str, Any], found: Answered[RunAnswer]) -> int:
    """Tell a run as it is; return the exit code of its end."""
    screen.terminal.tell(options, found.raw, run_lines(found.value))
    return exit_of_run(found.value)


def wait_for_approval(
    route: RouteClient, screen: Console, options: dict[str, Any], run: Answered[RunAnswer]
) -> Answered[RunAnswer]:
    """Return the run when it is approved or given up, or after `--wait-for-approval`."""
    until = time.monotonic() + (options["wait_for_approval"] or 0.0)
    if run.value.state == RunState.AWAITING_APPROVAL:
        screen.write_error(f"Run {run.value.id} waits for an approval.")
    pause = _SHORTEST
    with going(screen, "Its run still waits; watch it with", f"watch {run.value.id}"):
        while run.value.state == RunState.AWAITING_APPROVAL and time.monotonic() < until:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)
            run = route.get(f"runs/{run.value.id}", RunAnswer)
    return run


def _tell_events(route: RouteClient, screen: Console, run: RunAnswer) -> None:
    after, pause = 0, _SHORTEST
    with screen.following(run) as following:
        while True:
            page = route.get(
                f"runs/{run.id}/events", EventsAnswer, after=after, limit=_PAGE
            ).value
            after = page.last
            for event in page.events:
                following.tell(event)
            if page.ended:
                return
            pause = _SHORTEST if page.events else min(pause * 1.5, _LONGEST)
            if len(page.events) < _PAGE:
                time.sleep(pause)
