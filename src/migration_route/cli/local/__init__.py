"""What the verbs of `manage.py migration_route` share: their options, their output, and
following a run."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from migration_route.access.actors import shell_actor
from migration_route.core.enums import Mode, Phase
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import Details, PlanRequest
from migration_route.presentation import serializers
from migration_route.presentation.text import runs as run_text
from migration_route.presentation.text.exit_codes import exit_of_run
from migration_route.presentation.text.runs import waits_for
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import runs as services_runs

Handler = Callable[[Terminal, dict[str, Any]], int]
"""Runs a verb with its options; returns the exit code."""


def verb(
    verbs: Any, name: str, help_text: str | None, handler: Handler, terminal: Terminal
) -> ArgumentParser:
    """Add a verb, which can print JSON. A verb without a help text is not listed."""
    arguments = {} if help_text is None else {"help": help_text}
    found: ArgumentParser = verbs.add_parser(name, **arguments)
    found.add_argument(
        "--json", action="store_true", help="print JSON, as the API returns it"
    )
    found.set_defaults(handler=partial(handler, terminal))
    return found


def plan_request(options: dict[str, Any]) -> PlanRequest:
    return PlanRequest(
        database=options["database"],
        targets=tuple(options["targets"]),
        mode=Mode(options["mode"]),
        phase=Phase(options["phase"]) if options["phase"] else None,
    )


def details_of(text: str) -> Details:
    """Decode the details that another process of this package requests."""
    return msgspec.json.decode(text, type=Details)


def print_run(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Print a run; return the exit code of its state."""
    answer = serializers.run_answer(run)
    terminal.tell(options, answer, run_text.run_lines(answer))
    return exit_of_run(answer)


_POLL = 0.3  # seconds between two polls


def follow(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Print events until the run has ended; return the exit code of its state."""
    actor, after, ended, printed = shell_actor(), 0, False, ""
    while not ended:
        found = services_runs.events(run.id, actor, after=after)
        after, ended = found.last, found.ended
        if not options["json"]:
            for event in map(serializers.event_answer, found.events):
                if line := run_text.event_line(event):
                    terminal.write(line)
            line = waits_for(serializers.run_answer(services_runs.show(run.id, actor)))
            if line not in {"", printed}:
                terminal.write(line)
            printed = line
        if not found.events:
            services_runs.wait(run.id, actor, seconds=_POLL)
    return print_run(terminal, options, services_runs.show(run.id, actor))
