"""Reads OIDC: which identity tokens are accepted, and what they may do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from migration_route.core.credentials import (
    Addresses,
    read_token_networks,
    read_token_scopes,
)
from migration_route.core.enums import Scope
from migration_route.core.setting_values import (
    Invalid,
    checked,
    is_list,
    optional,
    read_aliases,
    read_boolean,
    read_entries,
    read_item,
    refuse_unknown_keys,
)

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
    """The name of the issuer in the ledger, such as `github`. Default: its host."""
    issuer: str
    """The URL of the issuer, exactly as in the `iss` claim of its tokens. Required."""
    audience: tuple[str, ...]
    """The expected `aud` claim: a string, or a list of which any one is enough.
    Required."""
    claims: Mapping[str, tuple[ClaimValue, ...]]
    """The other claims that a token must have: for each claim a value, or a list of which
    any one is enough. Compared exactly. Required, not empty."""
    scopes: frozenset[Scope]
    """A list of [scopes](permissions.md), as for a token. Required."""
    databases: frozenset[str] | None = None
    """A list of aliases. Default: every database."""
    networks: Addresses | None = None
    """The networks that the tokens may be used from. Default: any."""
    jwks: Mapping[str, Any] | None = None
    """The issuer's keys, as a dict, or as the path of a file that is read together with the
    settings. Default: the keys are fetched."""
    jwks_uri: str | None = None
    """The URL of the keys. Default: taken from the issuer's discovery document."""
    algorithms: frozenset[str] = frozenset(ALGORITHMS)
    """The accepted signature algorithms, a list of RS, PS and ES with 256, 384 and 512, and
    EdDSA. Default: all of these. The key decides which of them it is for, never the
    token."""
    insecure: bool = False
    """`True`: the URLs may be `http`, on this host only. For tests."""


def read_issuers(entries: Any) -> tuple[Issuer, ...]:
    """Read OIDC. Raises `Invalid`. An invalid entry accepts no token."""
    problems: tuple[str, ...] = ()
    try:
        found = read_entries(entries, _issuer)
    except Invalid as error:
        found, problems = error.instead, error.problems
    for entry in found:
        first = next(other for other in found if other.issuer == entry.issuer)
        if _keys_of(first) != _keys_of(entry):
            problem = (
                f": all entries of {entry.issuer} must have the same 'jwks', "
                "'jwks_uri', 'algorithms' and 'insecure'."
            )
            raise Invalid(*problems, problem, instead=())
    return checked(found, problems)


def _keys_of(entry: Issuer) -> tuple[Any, ...]:
    return (entry.jwks, entry.jwks_uri, entry.algorithms, entry.insecure)


def _issuer(entry: Mapping[str, Any]) -> Issuer:
    refuse_unknown_keys(entry, sorted(found.name for found in fields(Issuer)))
    insecure = read_item(entry, "insecure", read_boolean, default=False)
    issuer = _address(entry.get("issuer"), "issuer", insecure=insecure)
    name = entry.get("name", urlsplit(issuer).hostname)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid(
            "'name' must be at most 50 letters, digits, '.', '_' and '-', such as 'github'."
        )
    jwks, jwks_uri = entry.get("jwks"), entry.get("jwks_uri")
    if jwks is not None and jwks_uri is not None:
        raise Invalid("'jwks' and 'jwks_uri' cannot both be set.")
    return Issuer(
        name=name,
        issuer=issuer,
        audience=_texts(entry.get("audience"), "audience"),
        claims=_claims(entry.get("claims"), issuer),
        scopes=read_token_scopes(entry.get("scopes")),
        databases=read_item(entry, "databases", optional(read_aliases)),
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
        raise Invalid(f"'{key}' must be a URL.")
    if not may_be_fetched(value, insecure=insecure):
        raise Invalid(
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
        raise Invalid(f"'{key}' must be a string or a list of strings.")
    return values


def _claims(value: Any, issuer: str) -> dict[str, tuple[ClaimValue, ...]]:
    if not isinstance(value, Mapping) or not value:
        raise Invalid(
            "'claims' must be a dict such as {'repository': 'owner/name'}: without claims, "
            "every token of this issuer would be accepted."
        )
    found: dict[str, tuple[ClaimValue, ...]] = {}
    for name, wanted in value.items():
        values = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
        if not values or not all(isinstance(one, str | int) for one in values):
            raise Invalid(
                f"the claim {name!r} must be a string, an integer or a boolean, or a list "
                "of them."
            )
        if any(isinstance(one, str) and "*" in one for one in values):
            raise Invalid(f"the claim {name!r} is compared exactly and must not use '*'.")
        found[str(name)] = values
    owners = _OWNERS_AT_SHARED_ISSUERS.get(issuer.rstrip("/"), ())
    if owners and not set(owners) & set(found):
        raise Invalid(
            f"{issuer} signs tokens for all its users: 'claims' must include one of "
            f"{', '.join(owners)}."
        )
    return found


def _algorithms(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset(ALGORITHMS)
    if not is_list(value) or not value:
        raise Invalid(f"'algorithms' must be a list of {', '.join(ALGORITHMS)}.")
    unknown = [one for one in value if one not in ALGORITHMS]
    if unknown:
        raise Invalid(
            f"'algorithms' must be a list of {', '.join(ALGORITHMS)}, not {unknown!r:.100}."
        )
    return frozenset(value)


def _key_set(value: Any) -> Mapping[str, Any]:
    """Read a JWK set: the set itself, or the path of a file that contains it."""
    if isinstance(value, str | Path):
        try:
            value = json.loads(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Invalid(f"'jwks' cannot be read as a JWK set: {error}") from error
    if not isinstance(value, Mapping) or not isinstance(value.get("keys"), list):
        raise Invalid(
            "'jwks' must be a dict with a list 'keys', or the path of such a file."
        )
    return value
