"""Output of the remote client, and following a run to its end.

A pipe gets lines; a terminal with `rich` installed shows the same lines above a live one. A
run is followed by polling, less often while nothing is new. The client can stop at any
time: the run continues on the server.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from migration_route.cli.remote.client import DecodedResponse, RouteClient
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
    """A line that is updated below the output."""

    def write(self, words: str) -> None:
        """Write above it."""

    def show(self, words: str, *, done: int) -> None:
        """Show what is running and how many steps are done."""


def escape_control_characters(words: str) -> str:
    """Return text that may come from a database or a migration, without control characters
    of a terminal. JSON stays JSON, with the same meaning."""
    return words.translate(_CONTROL)


@dataclass(slots=True, kw_only=True)
class Console:
    """Standard output, standard error and the live line of a terminal."""

    is_json: bool = False
    _live: LiveDisplay | None = field(default=None, init=False)

    @property
    def terminal(self) -> Terminal:
        return Terminal(write=self.write, write_error=self.write_error)

    def write(self, words: str) -> None:
        if self._live is not None:
            self._live.write(escape_control_characters(words))
            return
        sys.stdout.write(escape_control_characters(words) + "\n")
        sys.stdout.flush()

    def write_error(self, words: str) -> None:
        sys.stderr.write(escape_control_characters(words) + "\n")
        sys.stderr.flush()

    def trouble(self, words: str) -> None:
        """Report a problem that is being retried."""
        if self._live is not None:
            self.write(words)
        else:
            self.write_error(words)

    @contextmanager
    def following(self, run: RunAnswer) -> Iterator[Following]:
        """Show the progress of a run during the block."""
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
    """The progress of a run, as it is shown."""

    screen: Console
    live: LiveDisplay | None
    done: int = 0
    step: str = ""

    def tell(self, event: EventAnswer) -> None:
        """Show one event, as the local command does."""
        if self.screen.is_json:
            return
        if event.kind == EventKind.STEP_STARTED:
            self.step = event.text
        self.done += event.kind == EventKind.STEP_FINISHED
        if (line := event_line(event)) is not None:
            self.screen.write(line)
        if self.live is not None:
            text = f"{self.step}: {event.text}" if event.kind in _SHOWN else self.step
            self.live.show(text, done=self.done)


_SHORTEST = 0.3
_LONGEST = 3.0
_PAGE = 500


def follow(
    route: RouteClient, screen: Console, options: dict[str, Any], run: RunAnswer
) -> int:
    """Show events until the run has ended; return its exit code.

    Ctrl-C stops the following, not the run.
    """
    with resume_hint(screen, "The run continues. Watch it with", f"watch {run.id}"):
        _tell_events(route, screen, run)
        found = route.get(f"runs/{run.id}", RunAnswer)
    return print_run(screen, options, found)


@contextmanager
def resume_hint(screen: Console, words: str, verb: str) -> Iterator[None]:
    """Print how to continue when the block is left by Ctrl-C, which exits the client, or by
    an error."""
    try:
        yield
    except KeyboardInterrupt:
        screen.write_error(f"\n{words}: migration-route {verb}")
        sys.exit(INTERRUPTED)
    except Exception:
        screen.write_error(f"Reconnect with: migration-route {verb}")
        raise


def print_run(
    screen: Console, options: dict[str, Any], found: DecodedResponse[RunAnswer]
) -> int:
    """Print a run; return the exit code of its state."""
    screen.terminal.tell(options, found.raw, run_lines(found.value))
    return exit_of_run(found.value)


def wait_for_approval(
    route: RouteClient,
    screen: Console,
    options: dict[str, Any],
    run: DecodedResponse[RunAnswer],
) -> DecodedResponse[RunAnswer]:
    """Return the run when it is approved or has ended, or after `--wait-for-approval`."""
    until = time.monotonic() + (options["wait_for_approval"] or 0.0)
    if run.value.state == RunState.AWAITING_APPROVAL:
        screen.write_error(f"Run {run.value.id} awaits approval.")
    pause = _SHORTEST
    with resume_hint(
        screen, "The run still awaits approval. Watch it with", f"watch {run.value.id}"
    ):
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
