"""Which verbs of the command ask something of a run that is at work?"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.ledger.records import RunRecord
from migration_route.operations import cancel, hold

VERBS = {
    "cancel": "stop a run, in mid-statement as well",
    "hold": "let a run wait before its next step",
    "resume": "let a run go on that is held",
}


def add_arguments(verb: str, parser: ArgumentParser) -> None:
    """Add what such a verb takes."""
    parser.add_argument("run")
    parser.add_argument("--reason", default="")
    if verb == "resume":
        parser.add_argument(
            "--force",
            action="store_true",
            help="go on in spite of the signals that hold it",
        )
    if verb == "cancel":
        parser.add_argument(
            "--force",
            action="store_true",
            help="kill its processes, and end its sessions in the database",
        )


def ask(options: dict[str, Any]) -> RunRecord:
    """Ask it, as whoever has a shell on this host."""
    actor, reason = on_this_host(), options["reason"]
    match options["verb"]:
        case "cancel":
            return cancel.cancel(
                options["run"], actor, reason=reason, force=options["force"]
            )
        case "hold":
            return hold.hold(options["run"], actor, reason=reason)
        case _:
            return hold.resume(options["run"], actor, reason=reason, force=options["force"])
