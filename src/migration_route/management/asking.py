"""The verbs of `manage.py migration_route` that ask something of a run that is at work."""

from __future__ import annotations

from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.commandline import reason_text
from migration_route.management.arguments import verb
from migration_route.management.ending import tell_run
from migration_route.management.terminal import Terminal
from migration_route.operations import cancel, hold
from migration_route.operations import end_blockers as ending
from migration_route.rendering import text
from migration_route.reporting import serialize


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    found = verb(verbs, "cancel", "stop a run, in mid-statement as well", _ask, terminal)
    _add_arguments(found)
    found.add_argument(
        "--force",
        action="store_true",
        help="kill its processes, and end its sessions in the database",
    )
    found = verb(verbs, "hold", "let a run wait before its next step", _ask, terminal)
    _add_arguments(found)
    about = "let a run go on that is held, or look again for its opening"
    found = verb(verbs, "resume", about, _ask, terminal)
    _add_arguments(found)
    found.add_argument(
        "--force", action="store_true", help="go on in spite of the signals that hold it"
    )
    found = verb(verbs, "end-blockers", "end who is in its way", _end_blockers, terminal)
    _add_arguments(found, is_explained=True)


def _add_arguments(parser: Any, *, is_explained: bool = False) -> None:
    parser.add_argument("run")
    parser.add_argument("--reason", type=reason_text, default="", required=is_explained)


def _ask(terminal: Terminal, options: dict[str, Any]) -> int:
    run, actor, reason = options["run"], on_this_host(), options["reason"]
    match options["verb"]:
        case "cancel":
            found = cancel.cancel(run, actor, reason=reason, force=options["force"])
        case "hold":
            found = hold.hold(run, actor, reason=reason)
        case _:
            found = hold.resume(run, actor, reason=reason, force=options["force"])
    tell_run(terminal, options, found)
    return 0


def _end_blockers(terminal: Terminal, options: dict[str, Any]) -> int:
    """End who is in the way of a run; 1 when somebody was left alone."""
    run, reason = options["run"], options["reason"]
    found = ending.end_blockers(run, on_this_host(), reason=reason)
    answer = serialize.ended_blockers_answer(found.run, found.ended, found.not_ended)
    terminal.tell(options, answer, text.ended_blockers_lines(answer))
    return 1 if found.not_ended else 0
