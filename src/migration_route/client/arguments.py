"""Which words do the verbs take? Those of the command, and where the route is."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from migration_route import clock
from migration_route.client.asked import Asking, with_route
from migration_route.client.screen import Screen

Handler = Callable[[Screen, dict[str, Any]], int]
"""Carries out a verb with its options; returns the exit code."""

FOLLOWING = 120.0
"""Seconds of patience of a verb that follows something; the others have none."""


def seconds(text: str) -> float:
    """Read a duration such as "30s" or "10m"; a bare number counts seconds."""
    try:
        return clock.duration(
            text if text.strip()[-1:].isalpha() else f"{text}s"
        ).total_seconds()
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def local_verb(verbs: Any, name: str, help_text: str, handler: Handler) -> ArgumentParser:
    """Add a verb that asks no server."""
    found: ArgumentParser = verbs.add_parser(
        name, help=help_text, description=help_text, allow_abbrev=False
    )
    found.add_argument("--json", action="store_true", help="print JSON, as the API answers")
    found.set_defaults(handler=handler)
    return found


def verb(
    verbs: Any, name: str, help_text: str, handler: Asking, *, patience: float = 0.0
) -> ArgumentParser:
    """Add a verb that asks a route; `handler` gets it as its first argument."""
    found = local_verb(verbs, name, help_text, partial(with_route, handler))
    group = found.add_argument_group(
        "the route", "The token stands in the variable MIGRATION_ROUTE_TOKEN."
    )
    group.add_argument(
        "--url",
        default=os.environ.get("MIGRATION_ROUTE_URL", ""),
        help="where it is mounted; left out: the variable MIGRATION_ROUTE_URL",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=30.0,
        metavar="DURATION",
        help="how long one request may stay without an answer (30s)",
    )
    group.add_argument(
        "--patience",
        type=seconds,
        default=patience,
        metavar="DURATION",
        help="for how long to try again where the route does not answer "
        f"({patience:g}s); what could begin twice is not sent twice",
    )
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help="trust these certificates alone"
    )
    return found


def run_path(options: dict[str, Any], call: str = "") -> str:
    """Return the path of the run that is meant, or of a call below it."""
    return f"runs/{quote(options['run'], safe='')}{call and f'/{call}'}"
