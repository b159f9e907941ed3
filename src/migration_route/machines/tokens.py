"""What is a token, how is one made, and how is its entry in TOKENS read?"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from migration_route.errors import InvalidRequest
from migration_route.machines.networks import Addresses
from migration_route.machines.rights import (
    databases_of_a_machine,
    networks_of_a_machine,
    scopes_of_a_machine,
)
from migration_route.vocabulary import Scope

_PREFIX = "mrt_"
_ID_LENGTH = 12
_SHA256_LENGTH = 64
_LONGEST_NAME = 200
_MOST_SECRETS = 2
_KEYS = frozenset(
    {"name", "sha256", "scopes", "databases", "networks", "expires", "revoked"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A machine's right to ask, known only by the digest of its secret."""

    name: str
    sha256: tuple[str, ...]  # of its secrets; the first is the one to use
    scopes: frozenset[Scope]
    databases: frozenset[str] | None = None  # None: every database
    networks: Addresses | None = None  # from where it may be used; None: from everywhere
    expires: date | None = None  # the first day on which it is no longer good
    revoked: bool = False


def new_secret() -> str:
    """Return a secret of 256 random bits, with a mark that scanners can look for."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """Return what the settings keep: a random secret needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def id_of(digest: str) -> str:
    """Return by which name the ledger knows a secret: it opens nothing."""
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
    """Return the entry of TOKENS for a secret; raises `InvalidRequest` for a wrong one."""
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


def read_tokens(entries: Any) -> tuple[tuple[Token, ...], list[str]]:
    """Read TOKENS; an entry that is wrong lets nobody in."""
    if not isinstance(entries, list | tuple):
        return (), ["TOKENS must be a list of dicts."]
    found: list[Token] = []
    problems: list[str] = []
    owners: dict[str, int] = {}
    for position, entry in enumerate(entries):
        try:
            token = read_token(entry)
        except (ValueError, TypeError) as error:
            problems.append(f"TOKENS[{position}]: {error}")
            continue
        if known := [owners[each] for each in token.sha256 if each in owners]:
            problems.append(
                f"TOKENS[{position}]: the same 'sha256' stands in TOKENS[{known[0]}]: a "
                "secret has one entry."
            )
            continue
        owners |= dict.fromkeys(token.sha256, position)
        found.append(token)
    return tuple(found), problems


def read_token(entry: Any) -> Token:
    """Read one entry of TOKENS; raises `ValueError` with what is wrong."""
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - a value, not a call, is wrong
    if unknown := set(entry) - _KEYS:
        raise ValueError(f"unknown keys {sorted(map(str, unknown))}.")
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(f"needs a 'name' of 1 to {_LONGEST_NAME} characters.")
    revoked = entry.get("revoked", False)
    if not isinstance(revoked, bool):
        raise ValueError("'revoked' must be True or False.")  # noqa: TRY004
    return Token(
        name=name,
        sha256=_digests(entry.get("sha256")),
        scopes=scopes_of_a_machine(entry.get("scopes")),
        databases=databases_of_a_machine(entry.get("databases")),
        networks=networks_of_a_machine(entry.get("networks")),
        expires=_day(entry.get("expires")),
        revoked=revoked,
    )


def _digests(value: Any) -> tuple[str, ...]:
    """Read the digest of a secret, or those of the new and the old one."""
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
