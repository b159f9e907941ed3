"""Which words do several verbs of the command take?

How does a verb of the command say what it has found? As the remote client does.

How does the command tell a run, and which exit code is that?

How does the command follow a run to its end?
"""

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
"""Carries out a verb with its options; returns the exit code."""


def verb(
    verbs: Any, name: str, help_text: str | None, handler: Handler, terminal: Terminal
) -> ArgumentParser:
    """Add a verb, which `handler` carries out; it can answer in JSON. One without a help
    text is not listed."""
    words = {} if help_text is None else {"help": help_text}
    found: ArgumentParser = verbs.add_parser(name, **words)
    found.add_argument("--json", action="store_true", help="print JSON, as the API answers")
    found.set_defaults(handler=partial(handler, terminal))
    return found


def plan_request(options: dict[str, Any]) -> PlanRequest:
    """Return which plan is wanted."""
    return PlanRequest(
        database=options["database"],
        targets=tuple(options["targets"]),
        mode=Mode(options["mode"]),
        phase=Phase(options["phase"]) if options["phase"] else None,
    )


def details_of(text: str) -> Details:
    """Read the details that another process of the route asks for."""
    return msgspec.json.decode(text, type=Details)


def tell_run(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Tell a run as it is; return the exit code of its end."""
    answer = serializers.run_answer(run)
    terminal.tell(options, answer, run_text.run_lines(answer))
    return exit_of_run(answer)


_LOOK = 0.3  # seconds between two looks at what has happened


def follow(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Print what happens until the run has ended; return the exit code of its end."""
    actor, after, ended, told = shell_actor(), 0, False, ""
    while not ended:
        found = services_runs.events(run.id, actor, after=after)
        after, ended = found.last, found.ended
        if not options["json"]:
            for event in map(serializers.event_answer, found.events):
                if line := run_text.event_line(event):
                    terminal.write(line)
            words = waits_for(serializers.run_answer(services_runs.show(run.id, actor)))
            if words not in {"", told}:
                terminal.write(words)
            told = words
        if not found.events:
            services_runs.wait(run.id, actor, seconds=_LOOK)
    return tell_run(terminal, options, services_runs.show(run.id, actor))
