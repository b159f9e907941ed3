"""The verb `run` of `manage.py migration_route`: the process that carries out one run."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Any

from migration_route import processes
from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.management.arguments import verb
from migration_route.management.ending import tell_run
from migration_route.management.terminal import Terminal
from migration_route.operations import carry


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    found = verb(verbs, "run", "carry out a queued run in this process", _run, terminal)
    found.add_argument("run")
    found.add_argument("--carrier", default="", help=SUPPRESS)
    found.add_argument("--hand-back", action="store_true", help=SUPPRESS)


def _carry_on_anew(run: str, word: str) -> None:
    command = command_line(route_settings().command)
    processes.carry_on_anew(run, word, command)


def _run(terminal: Terminal, options: dict[str, Any]) -> int:
    run = options["run"]
    found = carry.carry(
        run,
        anew=lambda word: _carry_on_anew(run, word),
        carrier=options["carrier"],
        hands_back=options["hand_back"],
    )
    return tell_run(terminal, options, found)
