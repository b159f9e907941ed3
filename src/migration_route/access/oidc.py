"""Identity tokens of pipelines (OpenID Connect): who has signed one, and whom it names.

Whom does this identity token name, and what may they do? No table is touched.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from migration_route.access.actors import Actor, Credential, IssuerUnavailable
from migration_route.access.jwks import JwksCache, UnknownKey
from migration_route.access.networks import network_flaw
from migration_route.conf import Issuer, route_settings
from migration_route.core.enums import ActorKind
from migration_route.core.errors import RouteError, Unauthenticated

_SHAPE = re.compile(r"ey[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_LEEWAY = 10  # seconds by which two clocks may differ
_NEEDED = ["exp", "iat", "nbf", "aud", "iss"]
_LONGEST = 200
_WHO = ("repository", "project_path", "sub")
_TOLD = (
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
"""The claims that the ledger tells: who has asked, from which run of which pipeline."""

_rings: dict[str, JwksCache] = {}
_making = threading.Lock()


def is_jwt(secret: str) -> bool:
    """Tell whether this may be an identity token, and any are taken here."""
    return bool(route_settings().oidc) and _SHAPE.fullmatch(secret) is not None


def authenticate_jwt(token: str, *, address: str) -> Actor:
    """Return the actor that an identity token names; one that is not good has a flaw."""
    try:
        import jwt
    except ImportError:
        flaw = IssuerUnavailable(
            "Identity tokens cannot be checked: PyJWT is not installed.",
            hint="pip install 'django-migration-route[oidc]'",
        )
        return _flawed(address, flaw)
    try:
        issuers = _issuers_of(token)
        claims = _verified(token, issuers[0])
    except RouteError as error:
        return _flawed(address, error)
    except (
        jwt.PyJWTError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,  # JSON within JSON within JSON
    ) as error:
        return _flawed(address, Unauthenticated(_SAID.get(type(error).__name__, _BAD)))
    return _actor(issuers, claims, address)


_BAD = "This identity token is not good: it cannot be read, or its signature is wrong."
_SAID = {
    "ExpiredSignatureError": "This identity token has expired.",
    "ImmatureSignatureError": "This identity token is not good yet.",
    "InvalidAudienceError": "This identity token is for another audience.",
    "MissingRequiredClaimError": f"An identity token needs {', '.join(_NEEDED)}.",
}


def _issuers_of(token: str) -> list[Issuer]:
    """Return the entries of OIDC for the issuer that the token names. Nothing of it is
    believed by that: it is their keys that the signature is checked with."""
    import jwt

    named = jwt.decode(token, options={"verify_signature": False}).get("iss")
    found = [entry for entry in route_settings().oidc if entry.issuer == named]
    if not found:
        raise Unauthenticated("OIDC names no such issuer of identity tokens.")
    return found


def _verified(token: str, issuer: Issuer) -> Mapping[str, Any]:
    """Return the claims of a token whose signature, issuer and times are right."""
    import jwt

    name = jwt.get_unverified_header(token).get("kid")
    if not isinstance(name, str):
        raise Unauthenticated("An identity token names its key in 'kid'.")
    try:
        key = _ring_of(issuer).find(name)
    except UnknownKey:
        raise Unauthenticated(
            f"{issuer.issuer} has no key of the name that this token gives."
        ) from None
    claims: Mapping[str, Any] = jwt.decode(
        token,
        key.key,
        algorithms=[key.algorithm_name],
        issuer=issuer.issuer,
        leeway=_LEEWAY,
        options={"require": _NEEDED, "verify_aud": False},
    )
    return claims


def _ring_of(issuer: Issuer) -> JwksCache:
    with _making:
        known = _rings.get(issuer.issuer)
        if known is None or known.issuer != issuer:  # the settings are other ones now
            known = _rings[issuer.issuer] = JwksCache(issuer)
        return known


def _actor(issuers: list[Issuer], claims: Mapping[str, Any], address: str) -> Actor:
    """Return what the first entry gives whose audience and claims the token has."""
    misfits = []
    for issuer in issuers:
        wrong = misfit(issuer, claims)
        if wrong is None:
            return _fitting(issuer, claims, address)
        misfits.append(wrong)
    # The issuer signs for others too: who this is, is told, but nobody of ours.
    flaw = Unauthenticated(
        f"This identity token fits no entry of OIDC: {'; '.join(dict.fromkeys(misfits))}.",
        hint="What it says has to be exactly what the entry's 'audience' and 'claims' say.",
    )
    return _flawed(address, flaw, _credential(issuers[0], claims))


def misfit(issuer: Issuer, claims: Mapping[str, Any]) -> str | None:
    """Return what a token says that an entry of OIDC does not, None if it fits."""
    audience = claims.get("aud")
    heard = audience if isinstance(audience, list) else [audience]
    if not any(one in issuer.audience for one in heard):
        return "'aud' is another"
    for name, wanted in issuer.claims.items():
        found = claims.get(name)
        if not any(type(found) is type(one) and found == one for one in wanted):
            return f"{name!r} is another" if name in claims else f"{name!r} is missing"
    return None


def _fitting(issuer: Issuer, claims: Mapping[str, Any], address: str) -> Actor:
    who = next((claims[name] for name in _WHO if isinstance(claims.get(name), str)), "")
    ref = claims.get("ref")
    name = f"{issuer.name}:{who}" + (f"@{ref}" if isinstance(ref, str) and ref else "")
    return Actor(
        kind=ActorKind.TOKEN,
        name=_plain(name),
        address=address,
        scopes=issuer.scopes,
        databases=issuer.databases,
        flaw=network_flaw(address, changes=False, own=issuer.networks),
        credential=_credential(issuer, claims),
    )


def _credential(issuer: Issuer, claims: Mapping[str, Any]) -> Credential:
    told = {
        name: _plain(str(claims[name]))
        for name in _TOLD
        if isinstance(claims.get(name), str | int)
    }
    jti = claims.get("jti")
    return Credential(
        id=f"{issuer.name}:{_plain(jti) if isinstance(jti, str) else ''}", claims=told
    )


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else "�" for sign in text)[:_LONGEST]


def _flawed(address: str, flaw: RouteError, credential: Credential | None = None) -> Actor:
    return Actor(kind=ActorKind.TOKEN, address=address, flaw=flaw, credential=credential)
