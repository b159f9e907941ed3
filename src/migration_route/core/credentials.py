"""Reads the settings that limit machines: TOKENS, NETWORKS, and the scopes of tokens and
OIDC.

It also creates tokens. It does not import Django, because the remote client uses it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Any

from migration_route.core.enums import USER_ONLY_SCOPES, Scope
from migration_route.core.errors import InvalidRequest
from migration_route.core.setting_values import (
    is_list,
    optional,
    read_aliases,
    read_boolean,
    read_entries,
    read_item,
)

UNIX = "unix"
"""Stands in a list of networks for a caller on a Unix socket, which has no address."""

_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
_KEYS = ("change", "read", "trusted_proxies", "header")
_EXAMPLE = "'10.0.0.0/8', '2001:db8::/32', a single address, or 'unix'"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """A set of networks, optionally with Unix sockets."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def holds(self, address: str) -> bool:
        """Return whether this address is in the set. "" is a Unix socket; text that is not
        an address is in no network."""
        if not address:
            return self.unix
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The networks that may call, and the proxies that are trusted to name the caller."""

    change: Addresses | None = None
    """The networks that changes may be requested from. Default: those of `read`."""
    read: Addresses | None = None
    """The networks that anything may be read from. Default: any."""
    trusted_proxies: Addresses = field(default_factory=Addresses)
    """The proxies whose header is trusted. If empty, the address is always that of the
    connection."""
    header: str = "X-Forwarded-For"
    """The header in which these proxies add the address of their caller: `X-Forwarded-For`,
    or a header of their own. `Forwarded` is not read."""


def read_networks(value: Any) -> tuple[Networks, list[str]]:
    """Read NETWORKS, and return the problems found. A list applies to requests that change
    something. An invalid entry admits no address."""
    if value is None or (isinstance(value, list | tuple) and not value):
        return Networks(), []
    if isinstance(value, Mapping):
        return _read_mapping(value)
    change, problems = read_addresses(value)
    return Networks(change=change), problems


def _read_mapping(value: Mapping[str, Any]) -> tuple[Networks, list[str]]:
    problems = [
        f"{key!r} is not a known key; use {', '.join(_KEYS)}."
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
        problems.append("'header' must be the name of a header, such as 'X-Forwarded-For'.")
        header = "X-Forwarded-For"
    if header.lower() == "forwarded":
        problems.append("'header' cannot be 'Forwarded'; use one that lists addresses.")
        header = "X-Forwarded-For"
    if "header" in value and "trusted_proxies" not in value:
        problems.append("'header' has no effect without 'trusted_proxies'.")
    # Without 'change', a change is allowed from the networks of 'read'.
    change = found.get("change", found.get("read"))
    networks = Networks(
        change=change,
        read=found.get("read"),
        trusted_proxies=found.get("trusted_proxies", Addresses()),
        header=header,
    )
    return networks, problems


def read_addresses(value: Any) -> tuple[Addresses, list[str]]:
    """Read a list of networks and addresses, without the invalid entries, and return the
    problems found."""
    if not is_list(value):
        return Addresses(), [f"must be a list such as [{_EXAMPLE}]."]
    networks: list[Network] = []
    problems: list[str] = []
    for entry in value:
        if entry == UNIX:
            continue
        try:
            networks.append(_network(entry))
        except ValueError as error:
            problems.append(f"{entry!r:.80} is not a network ({error}); write {_EXAMPLE}.")
    return Addresses(networks=tuple(networks), unix=UNIX in value), problems


def _network(entry: Any) -> Network:
    if isinstance(entry, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return entry
    if not isinstance(entry, str):  # a number would be read as an address
        raise ValueError("not a string")  # noqa: TRY004 - a value, not a call, is wrong
    return ipaddress.ip_network(entry)


def read_token_networks(value: Any) -> Addresses | None:
    """Read `networks`. Raises `ValueError`."""
    if value is None:
        return None
    found, problems = read_addresses(value)
    if problems:
        raise ValueError(f"'networks': {problems[0]}")
    return found


def read_token_scopes(value: Any) -> frozenset[Scope]:
    """Read `scopes`. Raises `ValueError`, also for scopes that only users may have."""
    if not is_list(value) or not value:
        raise ValueError(f"needs 'scopes', some of {[str(s) for s in Scope]}.")
    unknown = [scope for scope in value if scope not in list(Scope)]
    if unknown:
        raise ValueError(f"unknown scopes {unknown}.")
    scopes = frozenset(Scope(scope) for scope in value)
    if scopes & USER_ONLY_SCOPES:
        raise ValueError(
            f"{sorted(map(str, scopes & USER_ONLY_SCOPES))} are for users only."
        )
    return scopes


_PREFIX = "mrt_"
_ID_LENGTH = 12
_SHA256_LENGTH = 64
_LONGEST_NAME = 200
_MOST_SECRETS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A machine's access token, known only by the digests of its secrets."""

    name: str
    """The name that the ledger records. Required. Two entries may share a name."""
    sha256: tuple[str, ...]
    """The SHA-256 of the secret, 64 hexadecimal digits, or a list of two with the new one
    first while a secret is being replaced. Required."""
    scopes: frozenset[Scope]
    """A list of [scopes](permissions.md). Required, not empty. `approve`, `force` and
    `resolve` are for people only."""
    databases: frozenset[str] | None = None
    """A list of aliases. Default: every database."""
    networks: Addresses | None = None
    """The networks that the token may be used from; `"unix"` is a caller on a Unix socket.
    Default: any."""
    expires: date | None = None
    """The first day (UTC) on which the token is no longer valid: `"2027-01-01"` or a
    `date`. Default: never."""
    revoked: bool = False
    """`True`: the token is refused, and the ledger records each attempt to use it."""


def new_secret() -> str:
    """Return a secret of 256 random bits, with a prefix that secret scanners can find."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """Return the digest that the settings store: a random secret needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def id_of(digest: str) -> str:
    """Return the id under which the ledger records a secret; it grants no access."""
    return digest[:_ID_LENGTH]


def new_entry(
    secret: str,
    *,
    name: str,
    scopes: list[str],
    databases: list[str] | None = None,
    networks: list[str] | None = None,
    expires: str = "",
) -> dict[str, Any]:
    """Return the TOKENS entry for a secret. Raises `InvalidRequest` for an invalid one."""
    entry: dict[str, Any] = {
        "name": name,
        "sha256": digest_of(secret),
        "scopes": sorted(set(scopes)),
    }
    chosen = {"databases": databases, "networks": networks, "expires": expires}
    entry |= {key: value for key, value in chosen.items() if value}
    try:
        read_token(entry)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    return entry


def read_tokens(entries: Any) -> tuple[Token, ...]:
    """Read TOKENS. Raises `Invalid`. An invalid entry grants no access."""
    return read_entries(
        entries,
        read_token,
        unique=lambda token: token.sha256,
        repeated="'sha256' repeats that of TOKENS[{}]; use one entry per secret.",
    )


def read_token(entry: Mapping[str, Any]) -> Token:
    """Read one entry of TOKENS. Raises `ValueError` with the problem."""
    if unknown := set(entry) - {found.name for found in fields(Token)}:
        raise ValueError(f"unknown keys {sorted(map(str, unknown))}.")
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(f"needs a 'name' of 1 to {_LONGEST_NAME} characters.")
    return Token(
        name=name,
        revoked=read_item(entry, "revoked", read_boolean, default=False),
        sha256=_digests(entry.get("sha256")),
        scopes=read_token_scopes(entry.get("scopes")),
        databases=read_item(entry, "databases", optional(read_aliases)),
        networks=read_token_networks(entry.get("networks")),
        expires=_day(entry.get("expires")),
    )


def _digests(value: Any) -> tuple[str, ...]:
    """Read the digest of a secret, or the digests of a new and an old one."""
    digests = list(value) if isinstance(value, list | tuple) else [value]
    is_good = all(
        isinstance(digest, str)
        and len(digest) == _SHA256_LENGTH
        and not set(digest.lower()) - set("0123456789abcdef")
        for digest in digests
    )
    if not is_good or not 0 < len(digests) <= _MOST_SECRETS:
        raise ValueError(
            "needs 'sha256', 64 hexadecimal digits, or a list of two such, the new one "
            "first: 'manage.py migration_route token new NAME --scope …' prints them."
        )
    if len({digest.lower() for digest in digests}) < len(digests):
        raise ValueError("'sha256' lists the same digest twice.")
    return tuple(digest.lower() for digest in digests)


def _day(value: Any) -> date | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"'expires' must be a day such as '2027-01-01', not {value!r}."
        ) from error
