"""Reads OIDC: which identity tokens are accepted, and what they may do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from migration_route.core.credentials import (
    Addresses,
    read_token_databases,
    read_token_networks,
    read_token_scopes,
)
from migration_route.core.enums import Scope

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
"""Asymmetric signatures: only the issuer has the signing key."""

_KEYS = frozenset(
    {
        "name",
        "issuer",
        "audience",
        "claims",
        "scopes",
        "databases",
        "networks",
        "jwks",
        "jwks_uri",
        "algorithms",
        "insecure",
    }
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

# Issuers that sign tokens for all their users: without one of these claims, any pipeline
# there would be accepted.
_OWNERS_AT_SHARED_ISSUERS = {
    "https://token.actions.githubusercontent.com": (
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "job_workflow_ref",
        "sub",
    ),
    "https://gitlab.com": (
        "project_path",
        "project_id",
        "namespace_path",
        "namespace_id",
        "ci_config_ref_uri",
        "sub",
    ),
}

ClaimValue = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One entry of OIDC: the issuer, the audience, the required claims and what they
    allow."""

    name: str
    issuer: str
    audience: tuple[str, ...]  # any of these
    claims: Mapping[str, tuple[ClaimValue, ...]]  # each: any of these, exactly
    scopes: frozenset[Scope]
    databases: frozenset[str] | None = None  # None: every database
    networks: Addresses | None = None
    jwks: Mapping[str, Any] | None = None  # keys given in the settings
    jwks_uri: str | None = None  # None: from the issuer's discovery document
    algorithms: frozenset[str] = frozenset(ALGORITHMS)
    insecure: bool = False  # allow http, to this host only


def read_issuers(entries: Any) -> tuple[tuple[Issuer, ...], list[str]]:
    """Read OIDC; return its entries with their problems. An invalid entry accepts no
    token."""
    if not isinstance(entries, list | tuple):
        return (), ["OIDC must be a list of dicts."]
    found: list[Issuer] = []
    problems: list[str] = []
    for position, entry in enumerate(entries):
        try:
            found.append(read_issuer(entry))
        except (ValueError, TypeError) as error:
            problems.append(f"OIDC[{position}]: {error}")
    for entry in found:
        first = next(other for other in found if other.issuer == entry.issuer)
        if _keys_of(first) != _keys_of(entry):
            problems.append(
                f"OIDC: all entries of {entry.issuer} must have the same 'jwks', "
                "'jwks_uri', 'algorithms' and 'insecure'."
            )
            return (), problems
    return tuple(found), problems


def _keys_of(entry: Issuer) -> tuple[Any, ...]:
    return (entry.jwks, entry.jwks_uri, entry.algorithms, entry.insecure)


def read_issuer(entry: Any) -> Issuer:
    """Read one entry of OIDC; raises `ValueError` with the problem."""
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - an invalid value
    if unknown := set(entry) - _KEYS:
        raise ValueError(
            f"unknown keys {sorted(map(str, unknown))}. Valid keys: "
            f"{', '.join(sorted(_KEYS))}."
        )
    insecure = entry.get("insecure", False)
    if not isinstance(insecure, bool):
        raise ValueError("'insecure' must be True or False.")  # noqa: TRY004
    issuer = _address(entry.get("issuer"), "issuer", insecure=insecure)
    name = entry.get("name", urlsplit(issuer).hostname)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "'name' must be at most 50 letters, digits, '.', '_' and '-', such as 'github'."
        )
    jwks, jwks_uri = entry.get("jwks"), entry.get("jwks_uri")
    if jwks is not None and jwks_uri is not None:
        raise ValueError("'jwks' and 'jwks_uri' cannot both be set.")
    return Issuer(
        name=name,
        issuer=issuer,
        audience=_texts(entry.get("audience"), "audience"),
        claims=_claims(entry.get("claims"), issuer),
        scopes=read_token_scopes(entry.get("scopes")),
        databases=read_token_databases(entry.get("databases")),
        networks=read_token_networks(entry.get("networks")),
        jwks=None if jwks is None else _key_set(jwks),
        jwks_uri=None
        if jwks_uri is None
        else _address(jwks_uri, "jwks_uri", insecure=insecure),
        algorithms=_algorithms(entry.get("algorithms")),
        insecure=insecure,
    )


def _address(value: Any, key: str, *, insecure: bool) -> str:
    if not isinstance(value, str):
        raise ValueError(f"'{key}' must be a URL.")  # noqa: TRY004
    if not may_be_fetched(value, insecure=insecure):
        raise ValueError(
            f"'{key}' must be an https URL, not {value!r:.200}. With 'insecure': True, it "
            "can be an http URL of this host."
        )
    return value


def may_be_fetched(address: str, *, insecure: bool) -> bool:
    """Return whether keys may be fetched from a URL: over https, or from this host."""
    try:
        found = urlsplit(address)
        host, _ = found.hostname, found.port
    except ValueError:
        return False
    if not host or found.username or found.password or found.fragment:
        return False
    return found.scheme == "https" or (
        insecure and found.scheme == "http" and host in _LOOPBACK
    )


def _texts(value: Any, key: str) -> tuple[str, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values or not all(isinstance(one, str) and one for one in values):
        raise ValueError(f"'{key}' must be a string or a list of strings.")
    return values


def _claims(value: Any, issuer: str) -> dict[str, tuple[ClaimValue, ...]]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            "'claims' must be a dict such as {'repository': 'owner/name'}: without claims, "
            "every token of this issuer would be accepted."
        )
    found: dict[str, tuple[ClaimValue, ...]] = {}
    for name, wanted in value.items():
        values = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
        if not values or not all(isinstance(one, str | int) for one in values):
            raise ValueError(
                f"the claim {name!r} must be a string, an integer or a boolean, or a list "
                "of them."
            )
        if any(isinstance(one, str) and "*" in one for one in values):
            raise ValueError(
                f"the claim {name!r} is compared exactly and must not use '*'."
            )
        found[str(name)] = values
    owners = _OWNERS_AT_SHARED_ISSUERS.get(issuer.rstrip("/"), ())
    if owners and not set(owners) & set(found):
        raise ValueError(
            f"{issuer} signs tokens for all its users: 'claims' must include one of "
            f"{', '.join(owners)}."
        )
    return found


def _algorithms(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset(ALGORITHMS)
    if not isinstance(value, list | tuple | set | frozenset) or not value:
        raise ValueError(f"'algorithms' must be a list of {', '.join(ALGORITHMS)}.")
    unknown = [one for one in value if one not in ALGORITHMS]
    if unknown:
        raise ValueError(
            f"'algorithms' must be a list of {', '.join(ALGORITHMS)}, not {unknown!r:.100}."
        )
    return frozenset(value)


def _key_set(value: Any) -> Mapping[str, Any]:
    """Read a JWK set: the set itself, or the path of a file that contains it."""
    if isinstance(value, str | Path):
        try:
            value = json.loads(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"'jwks' cannot be read as a JWK set: {error}") from error
    if not isinstance(value, Mapping) or not isinstance(value.get("keys"), list):
        raise ValueError(  # noqa: TRY004
            "'jwks' must be a dict with a list 'keys', or the path of such a file."
        )
    return value
