"""Rehearses a plan on the database itself: in one transaction of the worker, under the run
lock, and within a time limit that this process enforces too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from migration_route.conf import route_settings
from migration_route.conf.databases import is_in_one_transaction, using_private_connection
from migration_route.core import clock
from migration_route.core.enums import RehearsalState, WaitingReason
from migration_route.core.errors import (
    ActiveRun,
    CannotRehearse,
    Misconfigured,
    SessionOrphaned,
)
from migration_route.core.values import SignalState
from migration_route.execution.messages import InPlaceLimits
from migration_route.execution.rehearsal import recorder
from migration_route.execution.rehearsal.recorder import RehearsalRecorder
from migration_route.execution.rehearsal.runner import (
    RehearsalRunner,
    initial_steps,
    milliseconds,
    work_order_of,
)
from migration_route.execution.supervisor.run_lock import LockHolder, acquire_or_reason
from migration_route.execution.worker.in_place import timeout_message
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.ledger.step_evidence import StepError
from migration_route.planning.plan import Plan
from migration_route.policy.schedule import freeze_signal
from migration_route.vendors import in_place_of, vendor_of
from migration_route.vendors.base import LockSlot

_LOCK_TIMEOUT = 0.1  # seconds
_GRACE = 0.3  # seconds for the worker to stop by itself
_SESSION_END_TIMEOUT = 2.0  # seconds for the session of an ended worker to end
_TERMINATE_TIMEOUT = 5.0  # seconds for a terminated session to end
_COPY = "Rehearse on a copy."


class InPlaceDeadline(Exception):
    """The time limit is reached, and the worker did not stop by itself."""


def require_in_place(plan: Plan, *, round_trip: bool) -> None:
    """Check, before anything starts, that a plan can be rehearsed in place.

    Raises `CannotRehearse`, `Misconfigured`, `ActiveRun` and `SessionOrphaned`.
    """
    settings, in_place = route_settings(), in_place_of(plan.database)
    if why := in_place.reason:
        raise CannotRehearse(
            f"{plan.database!r} cannot be rehearsed in place: {why}.", hint=_COPY
        )
    if settings.problems:
        raise Misconfigured(" ".join(settings.problems))
    freeze = freeze_signal(settings.freezes, clock.database_now())
    if freeze.state is SignalState.STOP:
        raise CannotRehearse(
            f"{freeze.reason} A rehearsal in place takes locks.", hint=_COPY
        )
    if round_trip:
        raise CannotRehearse(
            "A rehearsal in place cannot migrate back: the schema afterwards could not "
            "be compared with the one before, and the locks would be held for both "
            "directions.",
            hint=_COPY,
        )
    if not is_in_one_transaction(plan.database, atomic=plan.steps[0].atomic):
        raise CannotRehearse(
            f"{plan.steps[0].label} is not atomic: it cannot run inside a transaction, and "
            "the steps after it depend on it.",
            hint=_COPY,
        )
    with using_private_connection(plan.database) as connection:
        in_place.require(connection)
        with hold_run_lock(plan.database, connection):
            pass


@contextmanager
def hold_run_lock(database: str, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Hold the run lock of this database, in this block.

    Raises `ActiveRun` and `SessionOrphaned` if it is taken.
    """
    vendor = vendor_of(database)
    lock = vendor.lock(connection, LockSlot.SUPERVISOR)
    match acquire_or_reason(lock, vendor.lock(connection, LockSlot.WORKER)):
        case WaitingReason.LOCK:
            raise ActiveRun(f"Another process is migrating {database!r}.")
        case WaitingReason.ORPHANED_SESSION:
            raise SessionOrphaned
    try:
        yield
    finally:
        lock.release()


class InPlaceRehearsalRunner(RehearsalRunner):
    """Runs a rehearsal on the database itself."""

    begins_as = RehearsalState.RUNNING

    def __init__(self, record: RehearsalRecord, *arguments: Any) -> None:
        super().__init__(record, *arguments)
        usual = route_settings().database(record.database)
        self._limits = InPlaceLimits(
            limit=usual.in_place_timeout.total_seconds(),
            lock_timeout=min(_LOCK_TIMEOUT, usual.lock_timeout.total_seconds()),
        )
        self._observed = RehearsalRecorder(initial_steps(record))

    def _rehearse(self, connection: BaseDatabaseWrapper) -> StepError | None:
        with hold_run_lock(self._record.database, connection):
            before = _recorded(connection)
            try:
                error = self._execute_in_place()
            finally:  # always before the lock is released
                left = self._require_session_ended()
            if left is not None:
                return left
            if _recorded(connection) != before:
                return StepError(
                    type="NotRolledBack",
                    message="The table django_migrations has changed: something was "
                    "committed. Compare it, and the schema, with the code.",
                )
            return error

    def _execute_in_place(self) -> StepError | None:
        child, observed, start = self._children[0], self._observed, time.monotonic()
        try:
            order = work_order_of(self._record, in_place=self._limits)
            return self._execute(child, order, observed)
        except InPlaceDeadline:
            self._end_session(by_itself=0.0)
            error = StepError(
                type="InPlaceTimeout", message=timeout_message(self._limits.limit)
            )
            return observed.failed(error)
        finally:
            self._report = replace(
                self._report,
                steps=observed.steps,
                duration_ms=milliseconds(observed.begun or start),
                output=observed.output,
                limits=recorder.limitations_of(self._record, observed),
            )

    def _stay_alive(self) -> None:
        super()._stay_alive()
        begun = self._observed.begun
        if begun is not None and time.monotonic() > begun + self._limits.limit + _GRACE:
            raise InPlaceDeadline

    def _require_session_ended(self) -> StepError | None:
        """Make sure that the session of the worker has ended, and its locks with it."""
        self._children[0].kill()
        if self._end_session(by_itself=_SESSION_END_TIMEOUT):
            return None
        return StepError(
            type="SessionOrphaned",
            message="The database session of the rehearsal does not end and still holds "
            "its locks.",
        )

    def _end_session(self, *, by_itself: float) -> bool:
        """Terminate the session that holds the worker lock, which can only be that of this
        rehearsal."""
        with closing(LockHolder(self._record.database)) as session:
            return session.is_gone(within=by_itself) or session.end(
                within=_TERMINATE_TIMEOUT
            )


def _recorded(connection: BaseDatabaseWrapper) -> list[tuple[Any, ...]]:
    """Return the rows of django_migrations."""
    table = MigrationRecorder.Migration._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return []
        cursor.execute(
            f"SELECT * FROM {connection.ops.quote_name(table)} ORDER BY id"  # noqa: S608
        )
        return list(cursor.fetchall())
