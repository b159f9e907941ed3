"""Which words do several verbs of the command take?"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import datetime
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


def target_arguments(parser: ArgumentParser, *, has_mode: bool = True) -> None:
    """Let a verb take the targets, the database and the mode of a plan."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="app, app.name or app.zero; none: everything",
    )
    parser.add_argument("--database", default="default", metavar="ALIAS")
    if has_mode:
        modes = [mode.value for mode in Mode]
        parser.add_argument("--mode", default=Mode.APPLY, choices=modes)
        parser.add_argument(
            "--phase",
            choices=[phase.value for phase in Phase],
            help="only what belongs on this side of a deploy",
        )


def opening_arguments(parser: ArgumentParser) -> None:
    """Let a verb take when a run is to begin."""
    parser.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="not before this time, with its zone: 2026-12-01T02:00:00+01:00",
    )
    parser.add_argument(
        "--no-window-wait",
        action="store_true",
        help="refuse what may not begin now, instead of letting it wait",
    )


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(
            f"{text!r} is no time such as 2026-12-01T02:00:00+01:00"
        ) from error
    if found.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} needs its zone, as in {text}+01:00 or {text}Z")
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
