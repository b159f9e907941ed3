"""How does a line come onto the ledger?"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from django.db import Error as DatabaseFailure
from django.db import IntegrityError, OperationalError, transaction

from migration_route import signals
from migration_route.conf import route_settings
from migration_route.conf.databases import ledger_connection, ledger_transaction
from migration_route.core import clock
from migration_route.core.canonical_json import canonical_json
from migration_route.core.enums import Action, ActorKind
from migration_route.core.events import RunEvent, event_types_of
from migration_route.core.redaction import masked_facts
from migration_route.ledger import hashchain, spool
from migration_route.ledger.bootstrap import is_installed
from migration_route.models import Entry, stored_words

logger = logging.getLogger("migration_route.ledger")

_ATTEMPTS = 50
_NOTE_PATIENCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A line that is to come onto the ledger. Its facts are redacted: it is never changed,
    and sent to every recipient."""

    action: Action
    actor_kind: ActorKind = ActorKind.ROUTE
    actor_name: str = ""
    address: str = ""
    database: str = ""
    run: str = ""
    build: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    at: str = field(default_factory=clock.now)
    uid: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", masked_facts(self.facts))

    def words(self) -> dict[str, Any]:
        """Return what its digest will cover, but for its place in the chain."""
        return {
            "uid": self.uid,
            "at": self.at,
            "action": self.action,
            "actor_kind": self.actor_kind,
            "actor_name": self.actor_name,
            "address": self.address,
            "database": self.database,
            "run": self.run,
            "build": self.build,
            "facts": self.facts,
        }

    def texts(self) -> dict[str, str]:
        """Return the words that are free text, by the column that keeps each."""
        return {
            "actor_name": self.actor_name,
            "address": self.address,
            "database": self.database,
            "build": self.build,
        }

    @classmethod
    def from_words(cls, words: dict[str, Any]) -> Draft:
        """Read what `words` returned."""
        action, kind = Action(words["action"]), ActorKind(words["actor_kind"])
        return cls(**{**words, "action": action, "actor_kind": kind})


def append(*drafts: Draft) -> None:
    """Add lines to the chain, in the transaction that the caller has open.

    The caller stands in `own_connection(...)` and `transaction.atomic`; a lost race
    for the next place is an `IntegrityError` of that transaction: try it again whole.
    """
    alias = route_settings().ledger_database
    last = Entry.objects.using(alias).order_by("-sequence").first()
    sequence, previous = (last.sequence, last.digest) if last else (0, hashchain.GENESIS)
    rows = []
    for draft in drafts:
        sequence += 1
        words = {**draft.words(), **stored_words(Entry, alias, draft.texts())}
        digest = hashchain.link(previous, words)
        stored = {**words, "facts": canonical_json(draft.facts)}
        rows.append(Entry(sequence=sequence, previous=previous, digest=digest, **stored))
        previous = digest
    Entry.objects.using(alias).bulk_create(rows)
    transaction.on_commit(partial(_announce, drafts), using=alias, robust=True)


def _announce(drafts: tuple[Draft, ...]) -> None:
    """Let the receivers of signals hear what is committed now."""
    signals.announce(
        RunEvent(
            id=draft.uid,
            edge=edge,
            at=draft.at,
            database=draft.database,
            run=draft.run,
            actor_kind=draft.actor_kind,
            actor_name=draft.actor_name,
            build=draft.build,
            facts=MappingProxyType(json.loads(canonical_json(draft.facts))),
        )
        for draft in drafts
        for edge in event_types_of(draft.action, draft.facts)
    )


def write(*drafts: Draft, patience: float) -> None:
    """Add lines to the chain, after those that were left beside the database.

    Raises `django.db.DatabaseError` when the ledger cannot be written.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias, patience=patience):
        retrying(lambda: _write_all(alias, drafts))


def absorb_spool(*, patience: float) -> None:
    """Add to the chain what was left beside the database, if anything was."""
    folder = spool.spool_dir(route_settings().ledger_database)
    if folder is not None and any(spool.spooled_entries(folder)):
        write(patience=patience)


def _write_all(alias: str, drafts: tuple[Draft, ...]) -> None:
    folder = spool.spool_dir(alias)
    taken: list[Path] = []
    with ledger_transaction(alias):
        left, taken = _left_behind(alias, folder)
        append(*left, *drafts)
    if folder is not None:
        spool.remove_spooled(folder, taken)


def _left_behind(alias: str, folder: Path | None) -> tuple[list[Draft], list[Path]]:
    """Return what was left beside the database, without what the tables have already."""
    if folder is None or not folder.exists():
        return [], []
    found = list(spool.spooled_entries(folder))
    known = set(
        Entry.objects.using(alias)
        .filter(uid__in=[entry["uid"] for _, entry in found])
        .values_list("uid", flat=True)
    )
    drafts = [Draft.from_words(entry) for _, entry in found if entry["uid"] not in known]
    return drafts, [path for path, _ in found]


def retrying(write_once: Any) -> Any:
    """Call until no other writer took the same place in the chain meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return write_once()
        except IntegrityError:
            continue
        except OperationalError as error:
            if not _is_deadlock(error):
                raise
    return write_once()


def _is_deadlock(error: OperationalError) -> bool:
    """Tell InnoDB's way of refusing the second of two simultaneous inserts (1213)."""
    return bool(error.args) and error.args[0] in {1213, 1020}


def log_only(draft: Draft) -> None:
    """Put a line into the log alone."""
    logger.info("%s %s", draft.action, json.dumps(draft.words(), sort_keys=True))


def write_if_possible(draft: Draft) -> None:
    """Put a line on the ledger if there is one, and never fail for it.

    Where there is no ledger yet, an anonymous caller must not make one: the line goes
    to the log `migration_route.ledger` alone. Where a migration holds the SQLite file,
    the line waits beside it.
    """
    log_only(draft)
    alias = route_settings().ledger_database
    folder = spool.spool_dir(alias)
    try:
        if not is_installed(alias):
            return
        if not spool.migration_active(folder):
            write(draft, patience=_NOTE_PATIENCE)
            return
    except DatabaseFailure:
        if folder is None:
            logger.exception("The ledger could not be written: %s", draft.words())
            return
    if folder is not None:
        try:
            spool.spool_entry(folder, draft.words())
        except OSError:
            logger.exception("The ledger could not be written: %s", draft.words())
