"""Show the tokens of the settings, and when each secret was last used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.conf import Addresses, Token, route_settings
from migration_route.ledger.reading import last_use
from migration_route.machines.tokens import id_of
from migration_route.operations.recording import on_record
from migration_route.vocabulary import ActorKind, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """One secret of a token, by its id."""

    id: str
    is_old: bool
    last_use: str | None  # that the ledger tells of: what only reads, it does not


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """One entry of TOKENS, as far as people may see it."""

    name: str
    state: str  # good, expired or revoked
    scopes: tuple[str, ...]
    databases: tuple[str, ...] | None  # None: every one
    networks: tuple[str, ...] | None  # None: from everywhere
    expires: str | None
    secrets: tuple[SecretView, ...]


def list_all(actor: Actor) -> list[TokenView]:
    """Return the tokens in the order of the settings. Raises `DatabaseUnavailable`."""
    with on_record(actor, "tokens"):
        authorise(actor, Scope.READ)
        return [_view(token) for token in route_settings().tokens]


def _view(token: Token) -> TokenView:
    return TokenView(
        name=token.name,
        state=_state(token),
        scopes=tuple(sorted(token.scopes)),
        databases=None if token.databases is None else tuple(sorted(token.databases)),
        networks=None if token.networks is None else _words(token.networks),
        expires=token.expires.isoformat() if token.expires else None,
        secrets=tuple(
            SecretView(
                id=id_of(digest),
                is_old=position > 0,
                last_use=last_use(kind=ActorKind.TOKEN, credential=id_of(digest)),
            )
            for position, digest in enumerate(token.sha256)
        ),
    )


def _state(token: Token) -> str:
    if token.revoked:
        return "revoked"
    has_expired = token.expires is not None and datetime.now(UTC).date() >= token.expires
    return "expired" if has_expired else "good"


def _words(networks: Addresses) -> tuple[str, ...]:
    return (*map(str, networks.networks), *(["unix"] if networks.unix else []))
