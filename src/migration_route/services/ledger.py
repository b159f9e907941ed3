"""Lists, verifies and exports the ledger; returns metrics and the configured tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from django.db import DatabaseError

from migration_route.access.actors import Actor, authorise, readable
from migration_route.conf import Addresses, Token, route_settings
from migration_route.conf.databases import all_aliases, using_private_connection
from migration_route.core.credentials import id_of
from migration_route.core.enums import ActorKind, Scope
from migration_route.core.errors import DatabaseUnavailable, Forbidden
from migration_route.ledger import outbox, queries, verification
from migration_route.ledger.hashchain import ChainHead
from migration_route.ledger.outbox import Backlog
from migration_route.ledger.queries import find_run, heartbeat_age, last_credential_use
from migration_route.ledger.records import EntryRecord, RunRecord
from migration_route.ledger.verification import (
    LedgerMeasure,
    RunCount,
    Verification,
    export_batch,
)
from migration_route.ledger.verification import verify as verify_all
from migration_route.planning.plan import DatabaseStatus
from migration_route.services import runs
from migration_route.services.audit import audited


def entries(
    actor: Actor,
    *,
    before: int | None = None,
    limit: int = 50,
    wanted: queries.EntryFilter = queries.ALL_ENTRIES,
) -> list[EntryRecord]:
    """Return the entries of the databases that the actor may read, newest first."""
    with audited(actor, "ledger"):
        authorise(actor, Scope.READ)
        databases = readable(actor, all_aliases())
        return queries.list_entries(
            before=before, limit=limit, databases=databases, wanted=wanted
        )


def verify(actor: Actor, *, head: ChainHead | None = None) -> Verification:
    """Verify the whole ledger, and that it still contains the entry `head`.

    Raises `DatabaseUnavailable` when it cannot be read.
    """
    with audited(actor, "verify"):
        authorise(actor, Scope.READ)
        try:
            return verify_all(head)
        except DatabaseError as error:
            raise DatabaseUnavailable("Reading the ledger failed.") from error


def export(actor: Actor, *, after: int = 0) -> Iterator[bytes]:
    """Return the lines of the whole ledger after a sequence number, oldest first.

    Each piece has many lines. Only one piece is in memory, and no database session stays
    open between two pieces.

    An actor who may read only some databases is refused, because a part of the ledger
    cannot be verified. Raises `Forbidden` and `DatabaseUnavailable`, the latter also while
    iterating.
    """
    with audited(actor, "export"):
        authorise(actor, Scope.READ)
        if readable(actor, all_aliases()) is not None:
            raise Forbidden(
                f"{actor.name!r} can read only some databases, and the export contains "
                "the whole ledger.",
                hint="Grant a read permission that is not limited to some databases.",
            )
        piece, last = _batch(after)
    return chain([piece] if piece else [], _rest(last) if piece else [])


def _rest(last: int) -> Iterator[bytes]:
    while True:
        piece, last = _batch(last)
        if not piece:
            return
        yield piece


def _batch(after: int) -> tuple[bytes, int]:
    with using_private_connection(route_settings().ledger_database):
        return export_batch(after)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRunFigures:
    """A run that owns its database."""

    run: RunRecord
    silent_seconds: float  # since its last heartbeat


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFigures:
    """The metrics that are read from the ledger."""

    counts: tuple[RunCount, ...]
    last: tuple[RunRecord, ...]  # the newest ended run of each database
    active: tuple[ActiveRunFigures, ...]
    ledger: LedgerMeasure
    backlogs: tuple[Backlog, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The metrics of the databases that the actor may read."""

    databases: tuple[DatabaseStatus, ...]
    known: LedgerFigures | None  # None: the ledger's database is unavailable


def measure(actor: Actor) -> Measurement:
    """Return the current metrics.

    They are read from the tables, so every process returns the same values. Works when the
    ledger is not installed. Raises `Unauthenticated` and `Forbidden`.
    """
    databases = tuple(runs.status(actor))
    try:
        figures = _ledger_figures({status.database for status in databases}, databases)
    except DatabaseUnavailable:
        figures = None
    return Measurement(databases=databases, known=figures)


def _ledger_figures(
    aliases: set[str], databases: tuple[DatabaseStatus, ...]
) -> LedgerFigures:
    active = [find_run(found.active_run) for found in databases if found.active_run]
    return LedgerFigures(
        counts=tuple(
            each for each in verification.count_runs() if each.database in aliases
        ),
        last=tuple(verification.last_ended(aliases)),
        active=tuple(
            ActiveRunFigures(run=run, silent_seconds=heartbeat_age(run).total_seconds())
            for run in active
            if run.is_active
        ),
        ledger=verification.measure_ledger(),
        backlogs=tuple(
            outbox.backlogs([each.name for each in route_settings().recipients])
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """One secret of a token, by its id."""

    id: str
    is_old: bool
    last_use: str | None  # on the ledger, which does not record reads


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """The public part of one entry of TOKENS."""

    name: str
    state: str  # good, expired or revoked
    scopes: tuple[str, ...]
    databases: tuple[str, ...] | None  # None: all
    networks: tuple[str, ...] | None  # None: any
    expires: str | None
    secrets: tuple[SecretView, ...]


def list_all(actor: Actor) -> list[TokenView]:
    """Return the tokens in the order of the settings. Raises `DatabaseUnavailable`."""
    with audited(actor, "tokens"):
        authorise(actor, Scope.READ)
        return [_view(token) for token in route_settings().tokens]


def _view(token: Token) -> TokenView:
    return TokenView(
        name=token.name,
        state=_state(token),
        scopes=tuple(sorted(token.scopes)),
        databases=None if token.databases is None else tuple(sorted(token.databases)),
        networks=None if token.networks is None else _network_names(token.networks),
        expires=token.expires.isoformat() if token.expires else None,
        secrets=tuple(
            SecretView(
                id=id_of(digest),
                is_old=position > 0,
                last_use=last_credential_use(
                    kind=ActorKind.TOKEN, credential=id_of(digest)
                ),
            )
            for position, digest in enumerate(token.sha256)
        ),
    )


def _state(token: Token) -> str:
    if token.revoked:
        return "revoked"
    has_expired = token.expires is not None and datetime.now(UTC).date() >= token.expires
    return "expired" if has_expired else "good"


def _network_names(networks: Addresses) -> tuple[str, ...]:
    return (*map(str, networks.networks), *(["unix"] if networks.unix else []))
