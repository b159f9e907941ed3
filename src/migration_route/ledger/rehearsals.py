"""How does a rehearsal begin and end, and what is known of it?"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from django.db import IntegrityError

from migration_route import clock
from migration_route.canonical import canonical_json, digest
from migration_route.conf import route_settings
from migration_route.connecting import PATIENCE, ledger_connection, ledger_transaction
from migration_route.errors import ActiveRehearsal, NotInThisState, UnknownRehearsal
from migration_route.ledger.database_time import DatabaseNow, read_time
from migration_route.ledger.entries import Draft, append, retrying
from migration_route.ledger.evidence import StepError
from migration_route.ledger.opening import new_id
from migration_route.ledger.reading import read
from migration_route.ledger.rehearsal_records import (
    ACTIVE,
    NewRehearsal,
    RehearsalRecord,
    record_of,
)
from migration_route.ledger.rehearsal_report import (
    Report,
    report_to_json,
)
from migration_route.masking import masked
from migration_route.models import Rehearsal
from migration_route.vocabulary import (
    Action,
    RehearsalState,
)


def open_rehearsal(new: NewRehearsal) -> RehearsalRecord:
    """Put a rehearsal and its request on record.

    Raises `ActiveRehearsal` when another one of the database is under way.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        return retrying(lambda: _open_once(alias, new))  # type: ignore[no-any-return]


def _open_once(alias: str, new: NewRehearsal) -> RehearsalRecord:
    now = read_time(alias)
    row = Rehearsal(
        id=new_id(),
        database=new.database,
        active_database=new.database,
        state=RehearsalState.QUEUED,
        kind=new.kind,
        and_back=new.and_back,
        in_place=new.in_place,
        direction=new.direction,
        targets=json.dumps(new.targets),
        fingerprint=new.fingerprint,
        steps=json.dumps(new.steps),
        phase=new.phase or "",
        left_out=json.dumps(new.left_out) if new.left_out else "",
        actor_kind=new.actor_kind,
        actor_name=new.actor_name,
        address=new.address,
        reason=masked(new.reason),
        build=new.build,
        created_at=now,
        heartbeat_at=now,
    )
    requested = Draft(
        action=Action.REHEARSAL_REQUESTED,
        actor_kind=new.actor_kind,
        actor_name=new.actor_name,
        address=new.address,
        database=new.database,
        build=new.build,
        facts={
            "rehearsal": row.id,
            "fingerprint": new.fingerprint,
            "kind": new.kind,
            "and_back": new.and_back,
            "in_place": new.in_place,
            "targets": list(new.targets),
            "phase": new.phase,
            "reason": new.reason,
            **({"credential": new.credential} if new.credential else {}),
        },
    )
    try:
        with ledger_transaction(alias):
            row.save(using=alias, force_insert=True)
            append(requested)
    except IntegrityError:
        other = Rehearsal.objects.using(alias).filter(active_database=new.database).first()
        if other is None:
            raise
        raise ActiveRehearsal(
            f"Rehearsal {other.id} of {new.database!r} is {other.state}.",
            rehearsal=other.id,
        ) from None
    return record_of(row)


def move(
    rehearsal: str,
    *,
    to: RehearsalState,
    expected: Collection[RehearsalState],
    error: StepError | None = None,
    report: Report | None = None,
    **columns: Any,
) -> RehearsalRecord:
    """Move a rehearsal on if it is in one of the expected states; its end is an entry.

    Raises `NotInThisState` and `UnknownRehearsal`.
    """
    alias = route_settings().ledger_database
    columns |= {"state": to, "heartbeat_at": DatabaseNow()}
    if error is not None:
        columns["error"] = canonical_json(error.to_dict())
    if report is not None:
        columns["report"] = report_to_json(report)
    if to not in ACTIVE:
        columns |= {"active_database": None, "finished_at": clock.now()}

    def once() -> RehearsalRecord:
        with ledger_transaction(alias):
            rows = Rehearsal.objects.using(alias).filter(pk=rehearsal)
            if not rows.filter(state__in=list(expected)).update(**columns):
                row = rows.first()
                if row is None:
                    raise UnknownRehearsal
                raise NotInThisState(f"Rehearsal {rehearsal} is {row.state}.")
            row = rows.get()
            if to not in ACTIVE:
                append(_ended(row))
            return record_of(row)

    with ledger_connection(alias, patience=60.0 if to not in ACTIVE else PATIENCE):
        return retrying(once)  # type: ignore[no-any-return]


def _ended(row: Rehearsal) -> Draft:
    return Draft(
        action=Action.REHEARSAL_ENDED,
        database=row.database,
        build=row.build,
        facts={
            "rehearsal": row.id,
            "fingerprint": row.fingerprint,
            "in_place": row.in_place,
            "state": row.state,
            "error": json.loads(row.error) if row.error else None,
            "report_digest": digest(row.report),
        },
    )


def note(rehearsal: str, **columns: Any) -> None:
    """Write down what is no change of its state: the name of its database, its heart."""
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Rehearsal.objects.using(alias).filter(pk=rehearsal)
        rows.update(**{"heartbeat_at": DatabaseNow(), **columns})


def find_rehearsal(rehearsal: str) -> RehearsalRecord:
    """Return a rehearsal as it is on record. Raises `UnknownRehearsal`."""
    found = _read(lambda rows: rows.filter(pk=rehearsal), limit=1)
    if not found:
        raise UnknownRehearsal(f"There is no rehearsal {rehearsal!r}.")
    return found[0]


def list_rehearsals(
    *, database: str | None = None, before: str | None = None, limit: int = 20
) -> list[RehearsalRecord]:
    """Return rehearsals, newest first."""

    def query(rows: Any) -> Any:
        rows = rows if database is None else rows.filter(database=database)
        return rows if before is None else rows.filter(pk__lt=before)

    return _read(query, limit=limit)


def of_plan(fingerprint: str) -> RehearsalRecord | None:
    """Return the last rehearsal of a plan, whichever build read that; None: none was."""
    name = fingerprint.rpartition("-")[2]
    return next(
        iter(_read(lambda rows: rows.filter(fingerprint__endswith=name), limit=1)), None
    )


def unfinished(database: str | None = None) -> list[RehearsalRecord]:
    """Return those that are under way, or whose database is still to be removed."""

    def query(rows: Any) -> Any:
        rows = rows if database is None else rows.filter(database=database)
        return rows.exclude(active_database=None, is_removed=True)

    return _read(query, limit=1000)


def _read(query: Callable[[Any], Any], *, limit: int) -> list[RehearsalRecord]:
    def rows(alias: str) -> list[RehearsalRecord]:
        found = query(Rehearsal.objects.using(alias).order_by("-id"))[:limit]
        return [record_of(row) for row in found]

    return read(rows, empty=[])
