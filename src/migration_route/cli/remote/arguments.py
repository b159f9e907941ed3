"""Arguments of the remote client's verbs, and the connection that each verb uses."""

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

ClientHandler = Callable[[RouteClient, Console, dict[str, Any]], int]
"""Runs a verb with a client and its options; returns the exit code."""


def with_client(handler: ClientHandler, screen: Console, options: dict[str, Any]) -> int:
    """Run a verb with a client for the server that the options and the environment name."""
    if not options["url"]:
        raise InvalidRequest(
            "The address of the server is missing.",
            hint="Use --url https://example.com/migrations/, or set MIGRATION_ROUTE_URL.",
        )
    if not options["timeout"]:
        raise InvalidRequest("--timeout must be longer than zero.")
    transport = Transport(
        address=api_address(options["url"]),
        token=checked_token(os.environ.get("MIGRATION_ROUTE_TOKEN", "")),
        timeout=options["timeout"],
        ca=options["ca"],
    )
    parts = urlsplit(transport.address)
    if parts.scheme == "http" and not _is_this_host(parts.hostname or ""):
        screen.trouble(f"The token is sent to {parts.hostname} without encryption.")
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
"""Runs a verb with its options; returns the exit code."""

FOLLOWING = 120.0
"""Default of `--patience` in seconds, for verbs that follow something; 0 for the others."""


def seconds(text: str) -> float:
    """Read a duration such as "30s" or "10m"; a number without a unit is in seconds."""
    try:
        return clock.duration(
            text if text.strip()[-1:].isalpha() else f"{text}s"
        ).total_seconds()
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def local_verb(verbs: Any, name: str, help_text: str, handler: Handler) -> ArgumentParser:
    """Add a verb that contacts no server."""
    found: ArgumentParser = verbs.add_parser(
        name, help=help_text, description=help_text, allow_abbrev=False
    )
    found.add_argument(
        "--json", action="store_true", help="print JSON, as the API returns it"
    )
    found.set_defaults(handler=handler)
    return found


def verb(
    verbs: Any, name: str, help_text: str, handler: ClientHandler, *, patience: float = 0.0
) -> ArgumentParser:
    """Add a verb that contacts a server; `handler` gets the client as its first
    argument."""
    found = local_verb(verbs, name, help_text, partial(with_client, handler))
    group = found.add_argument_group(
        "connection", "The token is read from the variable MIGRATION_ROUTE_TOKEN."
    )
    group.add_argument(
        "--url",
        default=os.environ.get("MIGRATION_ROUTE_URL", ""),
        help="address at which the project mounts migration_route (default: the variable "
        "MIGRATION_ROUTE_URL)",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=30.0,
        metavar="DURATION",
        help="maximum time without a response to a request (default: 30s)",
    )
    group.add_argument(
        "--patience",
        type=seconds,
        default=patience,
        metavar="DURATION",
        help="how long to retry when the server does not respond (default: "
        f"{patience:g}s); requests that could start something twice are not repeated",
    )
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help="trust only the certificates in this file"
    )
    return found


def run_path(options: dict[str, Any], call: str = "") -> str:
    """Return the path of the run in the options, or of a call below it."""
    return f"runs/{quote(options['run'], safe='')}{call and f'/{call}'}"
