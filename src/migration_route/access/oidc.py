"""Authenticates the identity tokens of pipelines (OpenID Connect), without any table."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from migration_route.access.actors import Actor, Credential, IssuerUnavailable
from migration_route.access.jwks import JwksCache, UnknownKey
from migration_route.access.networks import network_error
from migration_route.conf import Issuer, route_settings
from migration_route.core.enums import ActorKind
from migration_route.core.errors import RouteError, Unauthenticated

_SHAPE = re.compile(r"ey[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_LEEWAY = 10  # seconds by which two clocks may differ
_REQUIRED = ["exp", "iat", "nbf", "aud", "iss"]
_MAX_LENGTH = 200
_NAME_CLAIMS = ("repository", "project_path", "sub")
_RECORDED_CLAIMS = (
    "jti",
    "sub",
    "repository",
    "repository_id",
    "project_path",
    "project_id",
    "ref",
    "ref_type",
    "environment",
    "sha",
    "actor",
    "user_login",
    "workflow",
    "workflow_ref",
    "job_workflow_ref",
    "ci_config_ref_uri",
    "event_name",
    "pipeline_source",
    "run_id",
    "run_attempt",
    "pipeline_id",
    "job_id",
    "runner_environment",
)
"""The claims on the ledger: the requester, and the run of the pipeline."""

_caches: dict[str, JwksCache] = {}
_caches_lock = threading.Lock()


def is_jwt(secret: str) -> bool:
    """Whether this may be an identity token, and OIDC is configured."""
    return bool(route_settings().oidc) and _SHAPE.fullmatch(secret) is not None


def authenticate_jwt(token: str, *, address: str) -> Actor:
    """Return the actor of an identity token; that of an invalid one has an error."""
    try:
        import jwt
    except ImportError:
        access_error = IssuerUnavailable(
            "Identity tokens cannot be verified: PyJWT is not installed.",
            hint="Run pip install 'django-migration-route[oidc]'.",
        )
        return _rejected(address, access_error)
    try:
        issuers = _issuers_of(token)
        claims = _verified(token, issuers[0])
    except RouteError as error:
        return _rejected(address, error)
    except (
        jwt.PyJWTError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,  # deeply nested JSON
    ) as error:
        message = _MESSAGES.get(type(error).__name__, _INVALID)
        return _rejected(address, Unauthenticated(message))
    return _actor(issuers, claims, address)


_INVALID = "This identity token is malformed, or its signature is wrong."
_MESSAGES = {
    "ExpiredSignatureError": "This identity token has expired.",
    "ImmatureSignatureError": "This identity token is not valid yet.",
    "InvalidAudienceError": "This identity token is for another audience.",
    "MissingRequiredClaimError": f"An identity token needs {', '.join(_REQUIRED)}.",
}


def _issuers_of(token: str) -> list[Issuer]:
    """Return the entries of OIDC for the issuer that the unverified token names.

    This trusts nothing in the token: its signature is checked with the issuer's keys.
    """
    import jwt

    named = jwt.decode(token, options={"verify_signature": False}).get("iss")
    issuers = [entry for entry in route_settings().oidc if entry.issuer == named]
    if not issuers:
        raise Unauthenticated("OIDC has no entry for the issuer of this identity token.")
    return issuers


def _verified(token: str, issuer: Issuer) -> Mapping[str, Any]:
    """Return the claims of a token after verifying its signature, issuer and times."""
    import jwt

    name = jwt.get_unverified_header(token).get("kid")
    if not isinstance(name, str):
        raise Unauthenticated("This identity token does not name its key in 'kid'.")
    try:
        key = _cache_of(issuer).find(name)
    except UnknownKey:
        raise Unauthenticated(
            f"{issuer.issuer} has no key with the 'kid' of this identity token."
        ) from None
    claims: Mapping[str, Any] = jwt.decode(
        token,
        key.key,
        algorithms=[key.algorithm_name],
        issuer=issuer.issuer,
        leeway=_LEEWAY,
        options={"require": _REQUIRED, "verify_aud": False},
    )
    return claims


def _cache_of(issuer: Issuer) -> JwksCache:
    with _caches_lock:
        cache = _caches.get(issuer.issuer)
        if cache is None or cache.issuer != issuer:  # the settings have changed
            cache = _caches[issuer.issuer] = JwksCache(issuer)
        return cache


def _actor(issuers: list[Issuer], claims: Mapping[str, Any], address: str) -> Actor:
    """Return the actor of the first entry whose audience and claims match the token."""
    mismatches = []
    for issuer in issuers:
        mismatch = claim_mismatch(issuer, claims)
        if mismatch is None:
            return _matched_actor(issuer, claims, address)
        mismatches.append(mismatch)
    # The issuer signs for other projects too: the ledger records the claims, but the token
    # authenticates no actor of this project.
    reasons = "; ".join(dict.fromkeys(mismatches))
    access_error = Unauthenticated(
        f"This identity token matches no entry of OIDC: {reasons}.",
        hint="Use a token that matches the entry's 'audience' and 'claims' exactly.",
    )
    return _rejected(address, access_error, _credential(issuers[0], claims))


def claim_mismatch(issuer: Issuer, claims: Mapping[str, Any]) -> str | None:
    """Return the first claim that does not match an entry of OIDC; None if all match."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not any(item in issuer.audience for item in audiences):
        return "'aud' differs"
    for name, allowed in issuer.claims.items():
        value = claims.get(name)
        if not any(type(value) is type(item) and value == item for item in allowed):
            return f"{name!r} differs" if name in claims else f"{name!r} is missing"
    return None


def _matched_actor(issuer: Issuer, claims: Mapping[str, Any], address: str) -> Actor:
    who = next(
        (claims[name] for name in _NAME_CLAIMS if isinstance(claims.get(name), str)), ""
    )
    ref = claims.get("ref")
    name = f"{issuer.name}:{who}" + (f"@{ref}" if isinstance(ref, str) and ref else "")
    return Actor(
        kind=ActorKind.TOKEN,
        name=_printable(name),
        address=address,
        scopes=issuer.scopes,
        databases=issuer.databases,
        access_error=network_error(address, changes=False, own=issuer.networks),
        credential=_credential(issuer, claims),
    )


def _credential(issuer: Issuer, claims: Mapping[str, Any]) -> Credential:
    recorded = {
        name: _printable(str(claims[name]))
        for name in _RECORDED_CLAIMS
        if isinstance(claims.get(name), str | int)
    }
    jti = claims.get("jti")
    return Credential(
        id=f"{issuer.name}:{_printable(jti) if isinstance(jti, str) else ''}",
        claims=recorded,
    )


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in text)[:_MAX_LENGTH]


def _rejected(
    address: str, access_error: RouteError, credential: Credential | None = None
) -> Actor:
    return Actor(
        kind=ActorKind.TOKEN,
        address=address,
        access_error=access_error,
        credential=credential,
    )
