"""From which addresses may somebody call? How NETWORKS, and a token's own, are read."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNIX = "unix"
"""Stands in a list for a caller on a Unix socket, who has no address."""

_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
_KEYS = ("change", "read", "trusted_proxies", "header")
_EXAMPLE = "'10.0.0.0/8', '2001:db8::/32', a single address, or 'unix'"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Some networks, and whether Unix sockets are among them."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def holds(self, address: str) -> bool:
        """Tell whether this address is one of them; "" is a Unix socket, and what is no
        address is in no network."""
        if not address:
            return self.unix
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Who may call from where, and whose word is taken for where a call came from."""

    change: Addresses | None = None  # None: from everywhere
    read: Addresses | None = None
    trusted_proxies: Addresses = field(default_factory=Addresses)
    header: str = "X-Forwarded-For"  # in which those proxies add who has called them


def read_networks(value: Any) -> tuple[Networks, list[str]]:
    """Read NETWORKS: a list is about what changes something. What is wrong in it lets
    nobody in whom a right entry would have let in."""
    if value is None or (isinstance(value, list | tuple) and not value):
        return Networks(), []
    if isinstance(value, Mapping):
        return _read_mapping(value)
    change, problems = read_addresses(value)
    return Networks(change=change), [f"NETWORKS: {problem}" for problem in problems]


def _read_mapping(value: Mapping[str, Any]) -> tuple[Networks, list[str]]:
    problems = [
        f"{key!r} is not known; there are {', '.join(_KEYS)}."
        for key in value
        if key not in _KEYS
    ]
    found: dict[str, Addresses] = {}
    for key in _KEYS[:3]:
        if value.get(key) is not None:
            found[key], wrong = read_addresses(value[key])
            problems += [f"{key!r}: {problem}" for problem in wrong]
    header = value.get("header", "X-Forwarded-For")
    if not isinstance(header, str) or not _HEADER.fullmatch(header):
        problems.append("'header' must be the name of a header, as 'X-Forwarded-For'.")
        header = "X-Forwarded-For"
    if header.lower() == "forwarded":
        problems.append("'header' cannot be 'Forwarded': name one that lists addresses.")
        header = "X-Forwarded-For"
    if "header" in value and "trusted_proxies" not in value:
        problems.append("'header' means nothing without 'trusted_proxies'.")
    # Without a list of its own, a change may come from where a reading call may.
    change = found.get("change", found.get("read"))
    networks = Networks(
        change=change,
        read=found.get("read"),
        trusted_proxies=found.get("trusted_proxies", Addresses()),
        header=header,
    )
    return networks, [f"NETWORKS: {problem}" for problem in problems]


def read_addresses(value: Any) -> tuple[Addresses, list[str]]:
    """Read a list of networks and addresses; what is wrong is left out of it."""
    if not isinstance(value, list | tuple | set | frozenset):
        return Addresses(), [f"must be a list such as [{_EXAMPLE}]."]
    networks: list[Network] = []
    problems: list[str] = []
    for entry in value:
        if entry == UNIX:
            continue
        try:
            networks.append(_network(entry))
        except ValueError as error:
            problems.append(f"{entry!r:.80} is no network ({error}); write {_EXAMPLE}.")
    return Addresses(networks=tuple(networks), unix=UNIX in value), problems


def _network(entry: Any) -> Network:
    if isinstance(entry, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return entry
    if not isinstance(entry, str):  # a number would be read as an address
        raise ValueError("not a text")  # noqa: TRY004 - a value, not a call, is wrong
    return ipaddress.ip_network(entry)
