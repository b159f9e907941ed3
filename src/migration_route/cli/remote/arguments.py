"""Which words do the verbs take? Those of the command, and where the route is.

How does a verb come to the route that it asks?
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from migration_route.cli.remote.client import RouteClient
from migration_route.cli.remote.follow import Console
from migration_route.cli.remote.transport import Transport, api_address, checked_token
from migration_route.core import clock
from migration_route.core.errors import InvalidRequest

Asking = Callable[[RouteClient, Console, dict[str, Any]], int]
"""Carries out a verb with a route and its options; returns the exit code."""


def with_client(handler: Asking, screen: Console, options: dict[str, Any]) -> int:
    """Carry out a verb with the route that the options and the environment name."""
    if not options["url"]:
        raise InvalidRequest(
            "Where is the route?",
            hint="Say --url https://example.com/migrations/, or set MIGRATION_ROUTE_URL.",
        )
    if not options["timeout"]:
        raise InvalidRequest("--timeout must be longer than nothing.")
    transport = Transport(
        address=api_address(options["url"]),
        token=checked_token(os.environ.get("MIGRATION_ROUTE_TOKEN", "")),
        timeout=options["timeout"],
        ca=options["ca"],
    )
    parts = urlsplit(transport.address)
    if parts.scheme == "http" and not _is_this_host(parts.hostname or ""):
        screen.trouble(f"The token goes to {parts.hostname} without encryption.")
    route = RouteClient(
        transport=transport, patience=options["patience"], tell_trouble=screen.trouble
    )
    return handler(route, screen, options)


def _is_this_host(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


Handler = Callable[[Console, dict[str, Any]], int]
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
    found = local_verb(verbs, name, help_text, partial(with_client, handler))
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
