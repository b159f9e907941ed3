"""The verbs of `manage.py migration_route` that execute runs, and the hidden one that
delivers notifications."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentTypeError
from pathlib import Path
from typing import Any

from migration_route.cli.local import print_run, verb
from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.conf.databases import find_target
from migration_route.core import subprocesses
from migration_route.presentation import schemas
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import execute, queue_worker
from migration_route.services.notifications import drain


def add_run_verbs(verbs: Any, terminal: Terminal) -> None:
    found = verb(verbs, "run", "execute a queued run in this process", _run, terminal)
    found.add_argument("run", help="ID of the run")
    found.add_argument("--claim", default="", help=SUPPRESS)
    found.add_argument("--release-if-waiting", action="store_true", help=SUPPRESS)


def _reexec(run: str, word: str) -> None:
    command = command_line(route_settings().command)
    subprocesses.reexec(run, word, command)


def _run(terminal: Terminal, options: dict[str, Any]) -> int:
    run = options["run"]
    found = execute.execute(
        run,
        anew=lambda word: _reexec(run, word),
        claim=options["claim"],
        release_if_waiting=options["release_if_waiting"],
    )
    return print_run(terminal, options, found)


def add_delivery_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add the verb `deliver`, which is not listed: only processes of this package call
    it."""
    found = verb(verbs, "deliver-notifications", None, _deliver, terminal)
    found.add_argument("words", help="name of the file for its output")


def _deliver(terminal: Terminal, options: dict[str, Any]) -> int:
    del terminal
    drain(options["words"])
    return 0


def add_worker_verbs(verbs: Any, terminal: Terminal) -> None:
    found = verb(verbs, "worker", "execute queued runs until SIGTERM", _work, terminal)
    found.add_argument(
        "--database",
        action="append",
        default=[],
        metavar="ALIAS",
        help="execute only runs on this database; repeat for several",
    )
    found.add_argument("--once", action="store_true", help="exit when no run is due")
    found.add_argument(
        "--max-runs", type=_count, metavar="N", help="exit after this many runs"
    )
    found.add_argument(
        "--every",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between two checks of the queue (default: 1)",
    )
    found.add_argument(
        "--health-file",
        type=Path,
        metavar="PATH",
        help="touch this file on every successful check, for a probe",
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not an integer above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 < found <= 3600:
        raise ArgumentTypeError("it must be above 0 and at most 3600 seconds")
    return found


def _work(terminal: Terminal, options: dict[str, Any]) -> int:
    for alias in options["database"]:
        find_target(alias)
    started = queue_worker.run_worker(
        queue_worker.QueueWorkerOptions(
            every=options["every"],
            most_runs=options["max_runs"],
            once=options["once"],
            databases=tuple(options["database"]),
            alive=options["health_file"],
        ),
        say=lambda line: None if options["json"] else terminal.write(line),
    )
    summary = f"Started {len(started)} run{'' if len(started) == 1 else 's'}."
    terminal.tell(options, schemas.WorkerAnswer(begun=started), [summary])
    return 0
