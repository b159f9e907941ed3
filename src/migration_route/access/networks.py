"""Finds the client address of a request, and checks it against NETWORKS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from migration_route.access.actors import WrongNetwork
from migration_route.conf import Addresses, Networks, route_settings

UNKNOWN_ADDRESS = "unknown"
"""A forwarded value that is not an IP address; no network contains it."""

_MAX_LENGTH = 100
_REFUSED = {True: "Changes are", False: "Reads are"}


def client_address(meta: Mapping[str, Any], networks: Networks | None = None) -> str:
    """Return the address of the client; "" for a Unix socket.

    It is the address of the peer, unless the peer is a trusted proxy. Then it is the last
    address in the proxy's header that is not a trusted proxy itself: any client can forge
    the values before it.
    """
    networks = networks or route_settings().networks
    peer = _canonical(str(meta.get("REMOTE_ADDR") or ""))
    if peer and not _is_address(peer):
        return (
            UNKNOWN_ADDRESS  # a server that trusts a proxy's header may set any text here
        )
    if not networks.trusted_proxies.holds(peer):
        return peer[:_MAX_LENGTH]
    name = "HTTP_" + networks.header.upper().replace("-", "_")
    address = peer
    for hop in reversed(str(meta.get(name, "")).split(",")):
        if not hop.strip():
            continue
        address = _address_in(hop.strip())
        if not networks.trusted_proxies.holds(address):
            break
    return address[:_MAX_LENGTH]


def _address_in(hop: str) -> str:
    """Return the address of a hop, without the port and brackets that some proxies add."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    address = _canonical(hop)
    return address if _is_address(address) else UNKNOWN_ADDRESS


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _canonical(address: str) -> str:
    """Return the address in canonical form; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def network_error(
    address: str, *, changes: bool, own: Addresses | None = None
) -> WrongNetwork | None:
    """Return the error if this address is not allowed; None if it is.

    `own` are the networks of the request's credential.
    """
    networks = route_settings().networks
    for allowed in (networks.change if changes else networks.read, own):
        if allowed is not None and not allowed.holds(address):
            where = f"from {address}" if address else "over a Unix socket"
            refused = "This token is" if allowed is own else _REFUSED[changes]
            return WrongNetwork(f"{refused} not allowed {where}.")
    return None
