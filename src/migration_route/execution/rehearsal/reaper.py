"""Concludes rehearsals whose processes are gone and removes what they left. The lock of the
rehearsals shows whether one is active, not the clock.
"""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from datetime import timedelta

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.conf.databases import private_connection
from migration_route.core import subprocesses
from migration_route.core.enums import RehearsalState
from migration_route.core.errors import InvalidState, RouteError
from migration_route.execution.launchers.process import has_ended, remove_log, with_log_tail
from migration_route.execution.supervisor.run_lock import LockHolder, try_lock
from migration_route.ledger import rehearsals
from migration_route.ledger.queries import since_heartbeat
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.ledger.step_evidence import StepError
from migration_route.vendors import copies_of, vendor_of
from migration_route.vendors.base import LockSlot
from migration_route.vendors.base_rehearsal import is_scratch_name, scratch_name

_TERMINATE_TIMEOUT = 5.0  # seconds for a terminated session to end


def terminate_session_of(record: RehearsalRecord) -> bool:
    """Terminate the session that a killed rehearsal left, found by its application name;
    return whether none is left."""
    with closing(LockHolder(record.database)) as session:
        found = session.describe()
        if found is None or record.id not in found.application:
            return True
        return session.end(within=_TERMINATE_TIMEOUT)


logger = logging.getLogger("migration_route.execution.rehearsal")

_START = timedelta(seconds=30)  # for a process on another host to start, under load


def refresh_rehearsal(record: RehearsalRecord) -> RehearsalRecord:
    """Return a rehearsal in its true state; what it left is removed when its process is
    gone.

    If the database or the ledger does not answer, it is returned as recorded.
    """
    if not record.is_active and record.is_removed:
        return record
    if not _is_suspect(record):
        return record
    try:
        return _conclude(record)
    except (DatabaseFailure, RouteError, OSError):
        logger.warning("Could not check rehearsal %s.", record.id, exc_info=True)
        return record


def remove_leftover_copies(database: str | None = None) -> list[RehearsalRecord]:
    """Refresh all unfinished rehearsals; return those that were concluded or whose copy was
    removed."""
    before = rehearsals.unfinished_rehearsals(database)
    found = [refresh_rehearsal(record) for record in before]
    return [after for after, record in zip(found, before, strict=True) if after != record]


def _is_suspect(record: RehearsalRecord) -> bool:
    if record.state is RehearsalState.QUEUED:
        return has_ended(record.id) or since_heartbeat(record.heartbeat_at) > _START
    if not record.is_active:
        return True  # it has ended, but its database still exists
    if record.host == socket.gethostname() and record.pid is not None:
        return not subprocesses.is_run_process(record.pid, record.id)
    return since_heartbeat(record.heartbeat_at) > route_settings().heartbeat_timeout


def _conclude(record: RehearsalRecord) -> RehearsalRecord:
    vendor = vendor_of(record.database)
    with (
        closing(private_connection(record.database)) as connection,
        try_lock(vendor.lock(connection, LockSlot.REHEARSAL)) as is_free,
    ):
        if not is_free:
            return record  # a rehearsal is active
        remove_leftovers(record.database, connection)
    return rehearsals.find_rehearsal(record.id)


def remove_leftovers(
    database: str, connection: BaseDatabaseWrapper, *, but: str = ""
) -> None:
    """Remove the databases of recorded rehearsals that are not active, and mark those
    rehearsals failed. The caller holds the lock of the rehearsals of the database."""
    for record in rehearsals.unfinished_rehearsals(database):
        if record.id == but or not _is_suspect(record):
            continue
        if record.scratch_database and not record.is_removed:
            _remove(record, connection)
        if record.in_place and not terminate_session_of(record):
            continue  # it still holds its locks: the next reader retries
        if record.is_active:
            _fail(record)
        remove_log(record.id)


def _remove(record: RehearsalRecord, connection: BaseDatabaseWrapper) -> None:
    """Remove a database only if its name matches the pattern, the record and the id of the
    rehearsal."""
    if not is_scratch_name(
        record.scratch_database
    ) or record.scratch_database != scratch_name(record.id):
        logger.error("%r is not a database of a rehearsal.", record.scratch_database)
        return
    copies_of(record.database).remove(connection, record.scratch_database)
    rehearsals.update_rehearsal(record.id, is_removed=True)


def _fail(record: RehearsalRecord) -> None:
    message = "The processes of this rehearsal ended before it finished."
    if record.state is RehearsalState.QUEUED:
        message = "The process of this rehearsal failed to start."
    error = StepError(type="Interrupted", message=with_log_tail(message, record.id))
    try:
        rehearsals.move(
            record.id, to=RehearsalState.FAILED, expected={record.state}, error=error
        )
    except InvalidState:
        logger.info("Another process has concluded rehearsal %s.", record.id)
