"""Which code is answering? After a deploy, two builds may do so by turns."""

from __future__ import annotations

import time

from migration_route.client.problems import Unreachable
from migration_route.client.route import Route
from migration_route.errors import StaleCode

ANSWERS = 5
"""How many answers in a row have to come from the build that is waited for."""

_PAUSE = 1.0
_SHORT_PAUSE = 0.2


def wait_for_build(route: Route, build: str, *, until: float) -> None:
    """Come back when this build has answered several times in a row, each time over a new
    connection. `until` is a time of `time.monotonic`.

    Raises `StaleCode` when another one still answers then, `Unreachable` when none does.
    """
    in_a_row, is_told = 0, False
    while True:
        seen = _answering(route)
        in_a_row = in_a_row + 1 if seen == build else 0
        if in_a_row == ANSWERS:
            return
        if time.monotonic() > until:
            raise _too_late(build, seen)
        if seen != build and not is_told:
            is_told = True
            said = f"build {seen!r} answers" if isinstance(seen, str) else str(seen)
            route.tell_trouble(f"Waiting for build {build!r}: {said}")
        time.sleep(_SHORT_PAUSE if in_a_row else _PAUSE)


def _answering(route: Route) -> str | Unreachable:
    """Return the build that answers now, or why none does."""
    try:
        reply = route.transport.send("GET", "ready")
    except Unreachable as error:
        if not error.is_passing:
            raise
        return error
    if reply.build is None:
        return Unreachable(f"{reply.url} answers with {reply.status}, and not the route.")
    return reply.build


def _too_late(build: str, seen: str | Unreachable) -> Exception:
    if isinstance(seen, Unreachable):
        return seen
    if seen == build:
        return StaleCode(
            f"Build {build!r} answers now, but another one did until just now."
        )
    return StaleCode(
        f"Build {seen!r} answers, not {build!r}.",
        hint="Has the deploy come to its end? --build-timeout says how long to wait.",
    )
