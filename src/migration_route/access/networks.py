"""From where has somebody called, and may they from there?"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from migration_route.access.actors import WrongNetwork
from migration_route.conf import Addresses, Networks, route_settings

UNKNOWN = "unknown"
"""A proxy has named something that is no address: no network holds it."""

_LONGEST = 100
_WHAT = {True: "change anything", False: "read anything"}


def client_address(meta: Mapping[str, Any], networks: Networks | None = None) -> str:
    """Return the address of whoever has called; "" for a Unix socket.

    It is that of the peer, unless the peer is a proxy that the settings trust: then it is
    the last one in the proxy's header that is no such proxy itself. What stands before it
    in the header was written by somebody else, and anybody can write it.
    """
    networks = networks or route_settings().networks
    peer = _plain(str(meta.get("REMOTE_ADDR") or ""))
    if peer and not _is_address(peer):
        return UNKNOWN  # a server that believes a proxy has put there what it was told
    if not networks.trusted_proxies.holds(peer):
        return peer[:_LONGEST]
    name = "HTTP_" + networks.header.upper().replace("-", "_")
    found = peer
    for hop in reversed(str(meta.get(name, "")).split(",")):
        if not hop.strip():
            continue
        found = _address_in(hop.strip())
        if not networks.trusted_proxies.holds(found):
            break
    return found[:_LONGEST]


def _address_in(hop: str) -> str:
    """Return the address in a hop: some proxies add a port, and brackets for that."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    found = _plain(hop)
    return found if _is_address(found) else UNKNOWN


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _plain(address: str) -> str:
    """Return an IPv4 address as such where a socket for both kinds wraps it."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)


def network_flaw(
    address: str, *, changes: bool, own: Addresses | None = None
) -> WrongNetwork | None:
    """Return why nobody may call from this address, if so; `own` are the networks of the
    credential that came along."""
    networks = route_settings().networks
    for allowed in (networks.change if changes else networks.read, own):
        if allowed is not None and not allowed.holds(address):
            where = f"from {address}" if address else "over a Unix socket"
            what = "use this token" if allowed is own else _WHAT[changes]
            return WrongNetwork(f"Nobody may {what} {where}.")
    return None
