"""Which words do several verbs of the command take?"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import msgspec

from migration_route.planning.plan import Details, PlanRequest
from migration_route.vocabulary import Mode


def verb(
    verbs: Any, name: str, help_text: str, handler: Callable[[dict[str, Any]], int]
) -> ArgumentParser:
    """Add a verb, which `handler` carries out; it can answer in JSON."""
    found: ArgumentParser = verbs.add_parser(name, help=help_text)
    found.add_argument("--json", action="store_true", help="print JSON, as the API answers")
    found.set_defaults(handler=handler)
    return found


def target_arguments(parser: ArgumentParser) -> None:
    """Let a verb take the targets, the database and the mode of a plan."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="app, app.name or app.zero; none: everything",
    )
    parser.add_argument("--database", default="default", metavar="ALIAS")
    parser.add_argument("--mode", default=Mode.APPLY, choices=[mode.value for mode in Mode])


def plan_request(options: dict[str, Any]) -> PlanRequest:
    """Return which plan is wanted."""
    return PlanRequest(
        database=options["database"],
        targets=tuple(options["targets"]),
        mode=Mode(options["mode"]),
    )


def details_of(text: str) -> Details:
    """Read the details that another process of the route asks for."""
    return msgspec.json.decode(text, type=Details)
