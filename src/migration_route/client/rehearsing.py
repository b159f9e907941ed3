"""The verbs `rehearse` and `rehearsals` of the client."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from migration_route.client.arguments import FOLLOWING, verb
from migration_route.client.following import going
from migration_route.client.route import Route
from migration_route.client.screen import Screen
from migration_route.commandline import rehearse_arguments
from migration_route.rendering.exits import DONE, exit_of_rehearsal
from migration_route.rendering.rehearsals import rehearsal_lines, rehearsals_lines
from migration_route.vocabulary import CopyKind
from migration_route.wire import PlanAnswer, RehearsalAnswer, RehearsalsAnswer

_SHORTEST = 0.5
_LONGEST = 5.0


def add_verbs(verbs: Any) -> None:
    """Add these verbs to the client."""
    about = "carry out a plan on a copy, or in place and undone, and tell what was seen"
    found = verb(verbs, "rehearse", about, _rehearse, patience=FOLLOWING)
    rehearse_arguments(found)
    found = verb(verbs, "rehearsals", "the last rehearsals, or one with its report", _show)
    found.add_argument("rehearsal", nargs="?")


def _rehearse(route: Route, screen: Screen, options: dict[str, Any]) -> int:
    wanted = {
        "database": options["database"],
        "targets": options["targets"],
        "phase": options["phase"],
        "fingerprint": options["fingerprint"] or _fingerprint(route, options),
        "kind": CopyKind.DATA.value if options["data"] else CopyKind.SCHEMA.value,
        "and_back": options["and_back"],
        "in_place": options["in_place"],
        "reason": options["reason"],
    }
    body = {key: value for key, value in wanted.items() if value}
    found = route.post("rehearsals", body, RehearsalAnswer)
    pause = _SHORTEST
    back = f"rehearsals {found.value.id}"
    with going(screen, "The rehearsal goes on; look at it with", back):
        while not found.value.ended and not options["no_wait"]:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)
            found = route.get(f"rehearsals/{found.value.id}", RehearsalAnswer)
    screen.terminal.tell(options, found.raw, rehearsal_lines(found.value))
    return exit_of_rehearsal(found.value)


def _fingerprint(route: Route, options: dict[str, Any]) -> str:
    return route.get(
        "plan",
        PlanAnswer,
        database=options["database"],
        target=options["targets"],
        phase=options["phase"],
        details="none",
    ).value.fingerprint


def _show(route: Route, screen: Screen, options: dict[str, Any]) -> int:
    if not options["rehearsal"]:
        found = route.get("rehearsals", RehearsalsAnswer, limit=200)
        screen.terminal.tell(options, found.raw, rehearsals_lines(found.value))
        return DONE
    path = f"rehearsals/{quote(options['rehearsal'], safe='')}"
    one = route.get(path, RehearsalAnswer)
    screen.terminal.tell(options, one.raw, rehearsal_lines(one.value))
    return DONE
