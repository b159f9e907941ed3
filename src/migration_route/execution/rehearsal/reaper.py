"""What became of a rehearsal whose process has gone? Whoever looks next removes what it
left. The lock tells whether anybody is still at work, not the clock.

Is the session of a rehearsal in place still there, whose processes are gone?
"""

from __future__ import annotations

import logging
import socket
from datetime import timedelta

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.conf.databases import private_connection
from migration_route.core import subprocesses
from migration_route.core.enums import RehearsalState
from migration_route.core.errors import InvalidState, RouteError
from migration_route.execution.launchers.process import has_ended, remove_log, with_log_tail
from migration_route.execution.recovery.sessions import LockHolder
from migration_route.ledger import rehearsals
from migration_route.ledger.evidence import StepError
from migration_route.ledger.queries import since_heartbeat
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.vendors import copies_of, vendor_of
from migration_route.vendors.base import LockSlot
from migration_route.vendors.base_copies import is_scratch_name, scratch_name

_ENDS = 5.0  # seconds in which a session goes when it is ended


def end_session_of(record: RehearsalRecord) -> bool:
    """End the session that a killed rehearsal has left, by the name that it bears; return
    whether there is none any more."""
    backend = LockHolder(record.database)
    try:
        found = backend.describe()
        if found is None or record.id not in found.application:
            return True
        return backend.end(within=_ENDS)
    finally:
        backend.close()


logger = logging.getLogger("migration_route.execution.rehearsal")

_START = timedelta(seconds=30)  # for the process of another host to be up, under load


def refresh_rehearsal(record: RehearsalRecord) -> RehearsalRecord:
    """Return a rehearsal as it truly is; what it left is removed when nobody is at work.

    Where the database or the ledger does not answer it stays as it is on record.
    """
    if not record.is_active and record.is_removed:
        return record
    if not _is_suspect(record):
        return record
    try:
        return _conclude(record)
    except (DatabaseFailure, RouteError, OSError):
        logger.warning("Rehearsal %s could not be looked after.", record.id, exc_info=True)
        return record


def remove_leftover_copies(database: str | None = None) -> list[RehearsalRecord]:
    """Look after all that is unfinished; return what was concluded or removed."""
    before = rehearsals.unfinished(database)
    found = [refresh_rehearsal(record) for record in before]
    return [after for after, record in zip(found, before, strict=True) if after != record]


def _is_suspect(record: RehearsalRecord) -> bool:
    if record.state is RehearsalState.QUEUED:
        return has_ended(record.id) or since_heartbeat(record.heartbeat_at) > _START
    if not record.is_active:
        return True  # it has ended, and its database is still there
    if record.host == socket.gethostname() and record.pid is not None:
        return not subprocesses.is_run_process(record.pid, record.id)
    return since_heartbeat(record.heartbeat_at) > route_settings().lease


def _conclude(record: RehearsalRecord) -> RehearsalRecord:
    connection = private_connection(record.database)
    try:
        lock = vendor_of(record.database).lock(connection, LockSlot.REHEARSAL)
        if not lock.try_acquire():
            return record  # somebody is at work
        try:
            remove_what_is_left(record.database, connection)
        finally:
            lock.release()
    finally:
        connection.close()
    return rehearsals.find_rehearsal(record.id)


def remove_what_is_left(
    database: str, connection: BaseDatabaseWrapper, *, but: str = ""
) -> None:
    """Remove the databases of rehearsals that are on record and not at work, and say
    that those have failed. The caller holds the lock of the database's rehearsals."""
    for record in rehearsals.unfinished(database):
        if record.id == but or not _is_suspect(record):
            continue
        if record.scratch and not record.is_removed:
            _remove(record, connection)
        if record.in_place and not end_session_of(record):
            continue  # it holds its locks still: whoever looks next tries again
        if record.is_active:
            _fail(record)
        remove_log(record.id)


def _remove(record: RehearsalRecord, connection: BaseDatabaseWrapper) -> None:
    """Remove what is exactly ours: by the pattern, by the record, and by its own id."""
    if not is_scratch_name(record.scratch) or record.scratch != scratch_name(record.id):
        logger.error("%r is no database of a rehearsal.", record.scratch)
        return
    copies_of(record.database).remove(connection, record.scratch)
    rehearsals.note(record.id, is_removed=True)


def _fail(record: RehearsalRecord) -> None:
    message = "The processes of this rehearsal ended before it had finished."
    if record.state is RehearsalState.QUEUED:
        message = "The process of this rehearsal could not start its work."
    error = StepError(type="Interrupted", message=with_log_tail(message, record.id))
    try:
        rehearsals.move(
            record.id, to=RehearsalState.FAILED, expected={record.state}, error=error
        )
    except InvalidState:
        logger.info("Rehearsal %s was concluded by somebody else.", record.id)
