"""How does a verb come to the route that it asks?"""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from migration_route.client.route import Route
from migration_route.client.screen import Screen
from migration_route.client.transport import Transport, api_address, checked_token
from migration_route.errors import InvalidRequest

Asking = Callable[[Route, Screen, dict[str, Any]], int]
"""Carries out a verb with a route and its options; returns the exit code."""


def with_route(handler: Asking, screen: Screen, options: dict[str, Any]) -> int:
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
    route = Route(
        transport=transport, patience=options["patience"], tell_trouble=screen.trouble
    )
    return handler(route, screen, options)


def _is_this_host(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
