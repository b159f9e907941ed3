"""How is a run followed to its end from afar?

By asking for what is new, less often while nothing is. Whoever follows can go: the run is
at work on the server.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from migration_route.client.route import Answered, Route
from migration_route.client.screen import Screen
from migration_route.rendering.exits import INTERRUPTED, exit_of_run
from migration_route.rendering.text import run_lines
from migration_route.vocabulary import RunState
from migration_route.wire import EventsAnswer, RunAnswer

_SHORTEST = 0.3
_LONGEST = 3.0
_PAGE = 500


def follow(route: Route, screen: Screen, options: dict[str, Any], run: RunAnswer) -> int:
    """Tell what happens until the run has ended; return the exit code of its end.

    Ctrl-C ends the following and not the run.
    """
    with going(screen, "The run goes on; watch it with", f"watch {run.id}"):
        _tell_events(route, screen, run)
        found = route.get(f"runs/{run.id}", RunAnswer)
    return tell_run(screen, options, found)


@contextmanager
def going(screen: Screen, words: str, verb: str) -> Iterator[None]:
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


def tell_run(screen: Screen, options: dict[str, Any], found: Answered[RunAnswer]) -> int:
    """Tell a run as it is; return the exit code of its end."""
    screen.terminal.tell(options, found.raw, run_lines(found.value))
    return exit_of_run(found.value)


def wait_for_approval(
    route: Route, screen: Screen, options: dict[str, Any], run: Answered[RunAnswer]
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


def _tell_events(route: Route, screen: Screen, run: RunAnswer) -> None:
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
