"""The verbs of the client that ask something of a run that is there."""

from __future__ import annotations

from typing import Any

from migration_route.client.arguments import run_path, verb
from migration_route.client.following import tell_run
from migration_route.client.route import Route
from migration_route.client.screen import Screen
from migration_route.commandline import reason_text
from migration_route.rendering.exits import DONE, FAILED
from migration_route.rendering.text import ended_blockers_lines
from migration_route.wire import EndedBlockersAnswer, RunAnswer

_ABOUT = {
    "cancel": "stop a run, in mid-statement as well",
    "hold": "let a run wait before its next step",
    "resume": "let a run go on that is held, or look again for its opening",
    "approve": "approve the plan of a run that waits for it; for people",
    "reject": "refuse to approve it; for people",
}
_FORCE = {
    "cancel": "kill its processes, and end its sessions in the database",
    "resume": "go on in spite of the signals that hold it",
}


def add_verbs(verbs: Any) -> None:
    """Add these verbs to the client."""
    for name, about in _ABOUT.items():
        found = verb(verbs, name, about, _ask)
        found.add_argument("run")
        found.add_argument("--reason", type=reason_text, default="")
        if name in _FORCE:
            found.add_argument("--force", action="store_true", help=_FORCE[name])
    found = verb(verbs, "end-blockers", "end who is in its way; for people", _end_blockers)
    found.add_argument("run")
    found.add_argument("--reason", type=reason_text, default="", required=True)


def _ask(route: Route, screen: Screen, options: dict[str, Any]) -> int:
    body = {"reason": options["reason"]}
    if options.get("force"):
        body["force"] = True
    found = route.post(run_path(options, options["verb"]), body, RunAnswer)
    tell_run(screen, options, found)
    return DONE


def _end_blockers(route: Route, screen: Screen, options: dict[str, Any]) -> int:
    """End who is in the way of a run; 1 when somebody was left alone."""
    body = {"reason": options["reason"]}
    found = route.post(run_path(options, "end-blockers"), body, EndedBlockersAnswer)
    screen.terminal.tell(options, found.raw, ended_blockers_lines(found.value))
    return FAILED if found.value.not_ended else DONE
