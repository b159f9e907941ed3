"""How is a plan rehearsed on the database itself? In one transaction of its worker, under
the lock of the runs, and within a bound that this process holds as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from migration_route.conf import route_settings
from migration_route.conf.databases import is_in_one_transaction, using_private_connection
from migration_route.core.enums import RehearsalState, WaitingReason
from migration_route.core.errors import (
    ActiveRun,
    CannotRehearse,
    Misconfigured,
    SessionOrphaned,
)
from migration_route.core.values import SignalState
from migration_route.execution.messages import InPlaceLimits
from migration_route.execution.recovery.sessions import LockHolder
from migration_route.execution.rehearsal import recorder
from migration_route.execution.rehearsal.recorder import RehearsalRecorder
from migration_route.execution.rehearsal.runner import (
    RehearsalRunner,
    milliseconds,
    not_started,
    order_of,
)
from migration_route.execution.supervisor.run_lock import acquire_or_reason
from migration_route.execution.worker.in_place import timeout_message
from migration_route.ledger.evidence import StepError
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.planning.plan import Plan
from migration_route.policy.health_gate import freeze_signal
from migration_route.vendors import in_place_of, vendor_of
from migration_route.vendors.base import LockSlot

_LOCK_TIMEOUT = 0.1  # seconds
_GRACE = 0.3  # seconds in which the worker is to stop by itself
_GOES = 2.0  # seconds in which the session of a worker that has ended goes by itself
_ENDS = 5.0  # and in which it goes when it is ended
_COPY = "Rehearse on a copy."


class InPlaceDeadline(Exception):
    """The bound of the rehearsal is reached, and its worker did not stop by itself."""


def require_in_place(plan: Plan, *, and_back: bool) -> None:
    """Find out before anything has begun whether a plan can be rehearsed in place.

    Raises `CannotRehearse`, `Misconfigured`, `ActiveRun` and `OrphanBackend`.
    """
    settings, in_place = route_settings(), in_place_of(plan.database)
    if why := in_place.why_not:
        raise CannotRehearse(
            f"{plan.database!r} cannot be rehearsed in place: {why}.", hint=_COPY
        )
    if settings.problems:
        raise Misconfigured(" ".join(settings.problems))
    freeze = freeze_signal(settings.freezes, datetime.now(UTC))
    if freeze.state is SignalState.STOP:
        raise CannotRehearse(
            f"{freeze.reason} A rehearsal in place takes locks.", hint=_COPY
        )
    if and_back:
        raise CannotRehearse(
            "There is no way back in place: the schema afterwards could not be compared "
            "with that before, and the locks would be held for both ways.",
            hint=_COPY,
        )
    if not is_in_one_transaction(plan.database, atomic=plan.steps[0].atomic):
        raise CannotRehearse(
            f"{plan.steps[0].label} is not atomic: it cannot be carried out inside of a "
            "transaction, and what comes after it depends on it.",
            hint=_COPY,
        )
    with using_private_connection(plan.database) as connection:
        in_place.require(connection)
        with mutex(plan.database, connection):
            pass


@contextmanager
def mutex(database: str, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Hold the lock of the runs of this database, in this block.

    Raises `ActiveRun` and `OrphanBackend` where it is taken.
    """
    vendor = vendor_of(database)
    lock = vendor.lock(connection, LockSlot.SUPERVISOR)
    match acquire_or_reason(lock, vendor.lock(connection, LockSlot.WORKER)):
        case WaitingReason.LOCK:
            raise ActiveRun(f"Another process is migrating {database!r}.")
        case WaitingReason.ORPHAN_BACKEND:
            raise SessionOrphaned
    try:
        yield
    finally:
        lock.release()


class InPlaceConductor(RehearsalRunner):
    """Conducts a rehearsal on the database itself."""

    begins_as = RehearsalState.RUNNING

    def __init__(self, record: RehearsalRecord, *arguments: Any) -> None:
        super().__init__(record, *arguments)
        usual = route_settings().database(record.database)
        self._bounds = InPlaceLimits(
            limit=usual.in_place_limit.total_seconds(),
            lock_timeout=min(_LOCK_TIMEOUT, usual.lock_timeout.total_seconds()),
        )
        self._hearing = RehearsalRecorder(not_started(record))

    def _carry_out(self, connection: BaseDatabaseWrapper) -> StepError | None:
        with mutex(self._record.database, connection):
            before = _recorded(connection)
            try:
                error = self._walk_in_place()
            finally:  # before the lock is given back, however it went
                left = self._session_that_is_left()
            if left is not None:
                return left
            if _recorded(connection) != before:
                return StepError(
                    type="NotRolledBack",
                    message="The table django_migrations is not what it was before: "
                    "something was committed. Compare it, and the schema, with the code.",
                )
            return error

    def _walk_in_place(self) -> StepError | None:
        child, hearing, start = self._children[0], self._hearing, time.monotonic()
        try:
            order = order_of(self._record, in_place=self._bounds)
            return self._walk(child, order, hearing)
        except InPlaceDeadline:
            self._end_session(by_itself=0.0)
            error = StepError(type="OutOfTime", message=timeout_message(self._bounds.limit))
            return hearing.failed(error)
        finally:
            self._report = replace(
                self._report,
                steps=hearing.steps,
                duration_ms=milliseconds(hearing.begun or start),
                output=hearing.output,
                limits=recorder.of(self._record, hearing),
            )

    def _stay_alive(self) -> None:
        super()._stay_alive()
        begun = self._hearing.begun
        if begun is not None and time.monotonic() > begun + self._bounds.limit + _GRACE:
            raise InPlaceDeadline

    def _session_that_is_left(self) -> StepError | None:
        """See to it that the session of the worker is gone, and its locks with it."""
        self._children[0].kill()
        if self._end_session(by_itself=_GOES):
            return None
        return StepError(
            type="OrphanBackend",
            message="The session of the rehearsal is still in the database, and holds its "
            "locks: it does not end.",
        )

    def _end_session(self, *, by_itself: float) -> bool:
        """End what holds the lock of the workers, which can be nobody else's now."""
        backend = LockHolder(self._record.database)
        try:
            return backend.is_gone(within=by_itself) or backend.end(within=_ENDS)
        finally:
            backend.close()


def _recorded(connection: BaseDatabaseWrapper) -> list[tuple[Any, ...]]:
    """Return the rows of Django's own record of what is applied."""
    table = MigrationRecorder.Migration._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return []
        cursor.execute(
            f"SELECT * FROM {connection.ops.quote_name(table)} ORDER BY id"  # noqa: S608
        )
        return list(cursor.fetchall())
