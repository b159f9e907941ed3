"""The verb `work` of `manage.py migration_route`: a worker in a container of its own.

The verb `run` of `manage.py migration_route`: the process that carries out one run.

The verb of `manage.py migration_route` that tells people and machines what waits.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentTypeError
from pathlib import Path
from typing import Any

from migration_route.cli.local import tell_run, verb
from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.conf.databases import find_target
from migration_route.core import subprocesses
from migration_route.presentation import schemas
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import execute, queue_worker
from migration_route.services.notifications import drain


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    found = verb(verbs, "run", "carry out a queued run in this process", _run, terminal)
    found.add_argument("run")
    found.add_argument("--carrier", default="", help=SUPPRESS)
    found.add_argument("--hand-back", action="store_true", help=SUPPRESS)


def _carry_on_anew(run: str, word: str) -> None:
    command = command_line(route_settings().command)
    subprocesses.reexec(run, word, command)


def _run(terminal: Terminal, options: dict[str, Any]) -> int:
    run = options["run"]
    found = execute.execute(
        run,
        anew=lambda word: _carry_on_anew(run, word),
        carrier=options["carrier"],
        hands_back=options["hand_back"],
    )
    return tell_run(terminal, options, found)


def add_telling_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add the verb, which a process of the route calls: it is not listed."""
    found = verb(verbs, "deliver", None, _deliver, terminal)
    found.add_argument("words", help="the name of the file that takes what it prints")


def _deliver(terminal: Terminal, options: dict[str, Any]) -> int:
    del terminal
    drain(options["words"])
    return 0


def add_working_verbs(verbs: Any, terminal: Terminal) -> None:
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
    begun = queue_worker.work(
        queue_worker.QueueWorkerOptions(
            every=options["every"],
            most_runs=options["max_runs"],
            once=options["once"],
            databases=tuple(options["database"]),
            alive=options["health_file"],
        ),
        say=lambda words: None if options["json"] else terminal.write(words),
    )
    ended = f"Begun here: {len(begun)} run{'' if len(begun) == 1 else 's'}."
    terminal.tell(options, schemas.WorkedAnswer(begun=begun), [ended])
    return 0
