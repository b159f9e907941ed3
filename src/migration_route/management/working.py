"""The verb `work` of `manage.py migration_route`: a worker in a container of its own."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from migration_route import wire
from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.operations import work
from migration_route.targets import find_target


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    about = "carry what is queued, until SIGTERM"
    found = verb(verbs, "work", about, _work, terminal)
    found.add_argument(
        "--database",
        action="append",
        default=[],
        metavar="ALIAS",
        help="only runs on this database; may repeat",
    )
    found.add_argument("--once", action="store_true", help="end when nothing is due now")
    found.add_argument(
        "--max-runs", type=_count, metavar="N", help="end after so many runs"
    )
    found.add_argument(
        "--every",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="between two looks at what is queued (1)",
    )
    found.add_argument(
        "--health-file",
        type=Path,
        metavar="PATH",
        help="a file that is touched at every look that went well, for a probe",
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no number of seconds") from error
    if not 0 < found <= 3600:
        raise ArgumentTypeError("it must lie between 0 and 3600 seconds")
    return found


def _work(terminal: Terminal, options: dict[str, Any]) -> int:
    for alias in options["database"]:
        find_target(alias)
    begun = work.work(
        work.WorkRequest(
            every=options["every"],
            most_runs=options["max_runs"],
            once=options["once"],
            databases=tuple(options["database"]),
            alive=options["health_file"],
        ),
        say=lambda words: None if options["json"] else terminal.write(words),
    )
    ended = f"Begun here: {len(begun)} run{'' if len(begun) == 1 else 's'}."
    terminal.tell(options, wire.WorkedAnswer(begun=begun), [ended])
    return 0
