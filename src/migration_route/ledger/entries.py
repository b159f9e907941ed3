"""Appends entries to the chain of the ledger, including those left in the spool."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import uuid4

from django.db import Error as DatabaseFailure
from django.db import IntegrityError, OperationalError, transaction

from migration_route import signals
from migration_route.conf import route_settings
from migration_route.conf.databases import PATIENCE, ledger_connection, ledger_transaction
from migration_route.core import clock
from migration_route.core.canonical_json import JsonValue, canonical_json
from migration_route.core.enums import Action, ActorKind
from migration_route.core.events import RunEvent, event_types_of
from migration_route.core.redaction import masked_facts
from migration_route.ledger import hashchain, spool
from migration_route.ledger.bootstrap import is_installed
from migration_route.models import Entry, stored_values

logger = logging.getLogger("migration_route.ledger")
Result = TypeVar("Result")

_ATTEMPTS = 50
_BEST_EFFORT_PATIENCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft(JsonValue):
    """An entry to append: the fields that its digest covers, except its place in the chain.

    Its facts are redacted: an entry is never changed, and is sent to every recipient.
    """

    action: Action
    actor_kind: ActorKind = ActorKind.SYSTEM
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


def append(*drafts: Draft) -> None:
    """Append entries to the chain, in the caller's open transaction.

    The caller is inside `ledger_connection(...)` and `ledger_transaction(...)`. A lost
    race for the next position raises `IntegrityError`: retry the whole transaction.
    """
    alias = route_settings().ledger_database
    last = Entry.objects.using(alias).order_by("-sequence").first()
    sequence, previous = (last.sequence, last.digest) if last else (0, hashchain.GENESIS)
    rows = []
    for draft in drafts:
        sequence += 1
        words = stored_values(Entry, alias, draft.to_dict())
        digest = hashchain.link(previous, words)
        stored = {**words, "facts": canonical_json(draft.facts)}
        rows.append(Entry(sequence=sequence, previous=previous, digest=digest, **stored))
        previous = digest
    Entry.objects.using(alias).bulk_create(rows)
    transaction.on_commit(partial(_announce, drafts), using=alias, robust=True)


def _announce(drafts: tuple[Draft, ...]) -> None:
    """Send the signals of committed entries."""
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
    """Append entries to the chain, after the spooled ones.

    Raises `django.db.DatabaseError` when the ledger cannot be written.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias, patience=patience):
        retry_on_conflict(lambda: _write_all(alias, drafts))


def absorb_spool(*, patience: float) -> None:
    """Append the spooled entries to the chain, if there are any."""
    folder = spool.spool_dir(route_settings().ledger_database)
    if folder is not None and any(spool.spooled_entries(folder)):
        write(patience=patience)


def _write_all(alias: str, drafts: tuple[Draft, ...]) -> None:
    folder = spool.spool_dir(alias)
    paths: list[Path] = []
    with ledger_transaction(alias):
        spooled, paths = _spooled(alias, folder)
        append(*spooled, *drafts)
    if folder is not None:
        spool.remove_spooled(folder, paths)


def _spooled(alias: str, folder: Path | None) -> tuple[list[Draft], list[Path]]:
    """Return the spooled entries that the tables lack, and the paths of all of them."""
    if folder is None or not folder.exists():
        return [], []
    spooled = list(spool.spooled_entries(folder))
    known = set(
        Entry.objects.using(alias)
        .filter(uid__in=[entry["uid"] for _, entry in spooled])
        .values_list("uid", flat=True)
    )
    drafts = [Draft.from_dict(entry) for _, entry in spooled if entry["uid"] not in known]
    return drafts, [path for path, _ in spooled]


def write_transaction(
    write_once: Callable[[str], Result], *, patience: float = PATIENCE
) -> Result:
    """Call a function with the ledger's alias, in a transaction on a private connection.

    The whole transaction is retried on a conflict.
    """
    alias = route_settings().ledger_database

    def once() -> Result:
        with ledger_transaction(alias):
            return write_once(alias)

    with ledger_connection(alias, patience=patience):
        return retry_on_conflict(once)


def retry_on_conflict(write_once: Callable[[], Result]) -> Result:
    """Call a function, again each time another writer takes the same chain position.

    Also retries after a deadlock. After 50 attempts the error is raised.
    """
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
    """Whether InnoDB rejected the second of two concurrent inserts.

    1213 is ER_LOCK_DEADLOCK, 1020 is ER_CHECKREAD.
    """
    return bool(error.args) and error.args[0] in {1213, 1020}


def log_only(draft: Draft) -> None:
    logger.info("%s %s", draft.action, json.dumps(draft.to_dict(), sort_keys=True))


def write_if_possible(draft: Draft) -> None:
    """Append an entry if the ledger is installed, without ever raising.

    An anonymous caller must not install the ledger: if it is missing, the entry goes only
    to the log `migration_route.ledger`. While a migration uses the SQLite file, the entry
    goes to the spool.
    """
    log_only(draft)
    alias = route_settings().ledger_database
    folder = spool.spool_dir(alias)
    try:
        if not is_installed(alias):
            return
        if not spool.migration_active(folder):
            write(draft, patience=_BEST_EFFORT_PATIENCE)
            return
    except DatabaseFailure:
        if folder is None:
            logger.exception("Writing to the ledger failed: %s", draft.to_dict())
            return
    if folder is not None:
        try:
            spool.spool_entry(folder, draft.to_dict())
        except OSError:
            logger.exception("Writing to the ledger failed: %s", draft.to_dict())
