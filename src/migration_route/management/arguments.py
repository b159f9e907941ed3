"""Which words do several verbs of the command take?"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from migration_route.management.terminal import Terminal
from migration_route.planning.plan import Details, PlanRequest
from migration_route.vocabulary import Mode, Phase

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
