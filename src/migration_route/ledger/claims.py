"""Claims of runs, and fencing: a process writes for a run only while it owns its claim.

A process claims a run with its own token, in one compare-and-set on the row: of two
processes, one succeeds. Until the run is `running`, another process may claim it when the
first one is gone, because no work was done yet.

A heartbeat that stops does not prove that a process is dead: its host can be cut off, or
the process frozen, and both can return. So every transaction of the run's own processes
checks the claim, and a process that concludes the run replaces it first. The times of
heartbeats are those of the ledger's database, which every host that writes to it shares.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from django.db import connections
from django.db.models import CharField, Func, Q

from migration_route.conf import route_settings
from migration_route.conf.databases import ledger_connection, ledger_transaction
from migration_route.core import clock
from migration_route.core.enums import ACTIVE_STATES, SCHEDULE_REASONS, RunState
from migration_route.core.errors import InvalidState, UnknownRun
from migration_route.ledger.records import RunRecord, run_record
from migration_route.models import Run

_POSTGRESQL = (
    "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
)
# Per cent signs are doubled: the statement always has parameters.
_MYSQL = "DATE_FORMAT(UTC_TIMESTAMP(6), '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ')"


class DatabaseNow(Func):
    """The time of the database, in the format of `clock.format_time`.

    SQLite runs in this process and uses the clock of its host.
    """

    output_field = CharField()

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        del compiler
        if connection.vendor == "postgresql":
            return _POSTGRESQL, []
        if connection.vendor == "mysql":
            return _MYSQL, []
        return "%s", [clock.host_now()]


def read_time(alias: str) -> str:
    """Return the time of the database, and adjust `core.clock` to it.

    Raises `django.db.Error`.
    """
    connection = connections[alias]
    sql, parameters = DatabaseNow().as_sql(None, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", parameters)
        (now,) = cursor.fetchone()
    clock.synchronize(str(now))
    return str(now)


CLAIMABLE_STATES = ACTIVE_STATES - {RunState.AWAITING_APPROVAL}
"""The states in which a process may write for a run that it has claimed."""


class ClaimLost(Exception):
    """Another process has taken over or concluded this run.

    Not a `RouteError`: no interface reports it, and code that handles a refusal must not
    catch it. The process that gets it stops its worker and writes nothing more.
    """


def renew_claim(run: str, claim: str, **columns: Any) -> None:
    """Write a heartbeat and the columns if the claim is still valid.

    The row stays locked until the caller's transaction ends, so no other process can take
    over the run in between. Writes through `connections[ledger]` of this thread. Raises
    `ClaimLost`.
    """
    rows = _claimed(run, claim)
    if not rows.update(heartbeat_at=DatabaseNow(), **columns):
        raise ClaimLost(run)


def require_claim(run: str, claim: str) -> None:
    """Raise `ClaimLost` unless the claim is still valid.

    Reads through `connections[ledger]` of this thread.
    """
    if not _claimed(run, claim).exists():
        raise ClaimLost(run)


def _claimed(run: str, claim: str) -> Any:
    alias = route_settings().ledger_database
    rows = Run.objects.using(alias).filter(pk=run, claimed_by=claim)
    return rows.filter(state__in=list(CLAIMABLE_STATES))


_NOT_STARTED = Q(state=RunState.QUEUED) | Q(
    state=RunState.WAITING, waiting_reason__in=SCHEDULE_REASONS
)
_LONG_AGO = "1970-01-01T00:00:00.000000Z"


def new_claim_token() -> str:
    """Return a random token with which a process claims runs."""
    return secrets.token_hex(16)


def claim(run: str, word: str, *, host: str, pid: int | None) -> RunRecord:
    """Claim a run that has not started and is unclaimed, or claimed by this token.

    Raises `InvalidState` when another process has claimed it or it has started;
    `UnknownRun`.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(pk=run)
        free = rows.filter(_NOT_STARTED, claimed_by__in=["", word])
        taken = free.update(
            claimed_by=word, host=host, supervisor_pid=pid, heartbeat_at=DatabaseNow()
        )
        row = rows.first()
    if row is None:
        raise UnknownRun(f"Run {run!r} does not exist.")
    if not taken:
        is_taken = _waits_to_start(run_record(row)) and row.claimed_by
        owner = f" and claimed by a process on {row.host!r}" if is_taken else ""
        raise InvalidState(f"Run {run} is {row.state}{owner}.", run=run, state=row.state)
    return run_record(row)


def heartbeat(run: str, word: str) -> RunRecord | None:
    """Record a heartbeat of a run that waits to start.

    Returns None when the run is no longer claimed by this token, or no longer waits.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(_NOT_STARTED, pk=run, claimed_by=word)
        rows.update(heartbeat_at=DatabaseNow())
        row = rows.first()
    return None if row is None else run_record(row)


def release_claim(run: str, word: str) -> None:
    """Release the claim of a run that waits to start: any process may claim it next."""
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(_NOT_STARTED, pk=run, claimed_by=word)
        rows.update(claimed_by="", supervisor_pid=None, heartbeat_at=_LONG_AGO)


def take_over(run: RunRecord) -> RunRecord:
    """Claim a lost run for the caller, who concludes it; return the updated run.

    The process that had claimed it is fenced from here on. Raises `InvalidState` when the
    run is no longer lost, or another process has taken it over.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias), ledger_transaction(alias):
        rows = Run.objects.using(alias).filter(pk=run.id)
        ours = rows.filter(state=RunState.LOST, claimed_by=run.claimed_by)
        if not ours.update(claimed_by=new_claim_token()):
            state = rows.values_list("state", flat=True).get()
            raise InvalidState(f"Run {run.id} is {state}.", run=run.id, state=state)
        return run_record(rows.get())


def as_unclaimed(run: RunRecord, reason: str) -> RunRecord:
    """Return a run as it is shown while no process has claimed it."""
    return replace(run, waiting_reason=reason, waiting_until="")


def _waits_to_start(run: RunRecord) -> bool:
    return run.state is RunState.QUEUED or run.waits_to_begin
