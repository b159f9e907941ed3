"""Runs a rehearsal: one process creates the copy, lets a worker migrate it, and removes it.
The lock of the rehearsals ends with this process.

It verifies that the copy is another database than the original and, after a migration back,
that its schema is what it was.
"""

from __future__ import annotations

import difflib
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.conf.databases import own_settings, private_connection
from migration_route.core import clock
from migration_route.core.enums import CopyKind, Direction, Mode, RehearsalState
from migration_route.core.errors import (
    ActiveRehearsal,
    CannotRehearse,
    InvalidState,
    RouteError,
)
from migration_route.core.redaction import message_of, sqlstate_of
from migration_route.execution.messages import InPlaceLimits, ScratchDatabase, WorkOrder
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.execution.rehearsal import recorder
from migration_route.execution.rehearsal.reaper import remove_leftovers
from migration_route.execution.rehearsal.recorder import RehearsalRecorder
from migration_route.execution.supervisor.child import Child
from migration_route.execution.supervisor.run_lock import try_lock
from migration_route.execution.worker.sandbox import settings_of
from migration_route.ledger import rehearsals
from migration_route.ledger.rehearsals import (
    ACTIVE,
    Limitation,
    ObservedStep,
    RehearsalRecord,
    Report,
)
from migration_route.ledger.step_evidence import StepError
from migration_route.planning import graph as graphs
from migration_route.planning.impact import rows_of_steps
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.vendors import copies_of, identity_of, vendor_of
from migration_route.vendors.base import LockSlot
from migration_route.vendors.base_rehearsal import (
    Separation,
    connection_with_settings,
    require_separate,
    scratch_name,
)

_MAX_DIFFERENCES = 200  # lines of difference


def require_other_database(
    database: str, connection: BaseDatabaseWrapper, alias: str
) -> Separation:
    """Return the identities of a database and of the database of another alias.

    The caller holds the lock of the rehearsals: it cannot be acquired again in the same
    database. Raises `CannotRehearse` if both are the same database, if that is unknown, or
    if the other one is of a different vendor.
    """
    if connections[alias].vendor != connection.vendor:
        raise CannotRehearse(f"{alias!r} does not have the same vendor as {database!r}.")
    found = _require_separate(database, connection, settings_of(database, alias=alias))
    with (
        closing(private_connection(alias)) as other,
        try_lock(vendor_of(alias).lock(other, LockSlot.REHEARSAL)) as is_free,
    ):
        if not is_free:
            raise CannotRehearse(
                f"{alias!r} leads to the same database as {database!r}, or another "
                "rehearsal is using it.",
                hint='Set "rehearsal_alias" to a database that may be changed.',
            )
    return found


def _require_separate(
    database: str, connection: BaseDatabaseWrapper, copy_settings: dict[str, Any]
) -> Separation:
    """Return the identities of a database and of the database with these settings.

    Compares the copy with the database as `connection` reaches it, and as the project does.
    Raises `CannotRehearse` if the settings of the copy lead elsewhere.
    """
    with connection_with_settings(
        connection, own_settings(database, copy_settings)
    ) as copy:
        found = require_separate(connection, copy)
        if route_settings().database(database).direct_alias:
            usual = connections[database]
            with connection_with_settings(
                usual, own_settings(database, usual.settings_dict)
            ) as same:
                require_separate(same, copy)
    return found


@contextmanager
def copy_connection(
    database: str, scratch: ScratchDatabase
) -> Iterator[BaseDatabaseWrapper]:
    """Point the alias at the copy, in this thread and block.

    Raises `CannotRehearse` if it leads to any other database.
    """
    usual = connections[database]
    copy = private_connection(database)
    copy.settings_dict = {
        **copy.settings_dict,
        **own_settings(
            database, settings_of(database, name=scratch.name, alias=scratch.alias)
        ),
    }
    try:
        found = identity_of(copy)
        if found != scratch.separation.copy:
            raise CannotRehearse(
                f"The connection to the copy leads to the database {found.label!r}: its "
                "schema was not read."
            )
        connections[database] = copy
        yield copy
    finally:
        connections[database] = usual
        copy.close()


def read_copy_schema(database: str, scratch: ScratchDatabase) -> list[str]:
    """Return the schema of the copy as lines."""
    with copy_connection(database, scratch) as connection:
        return copies_of(database).schema(connection)


def schema_differences(before: list[str], after: list[str]) -> tuple[str, ...]:
    """Return the removed ("-") and added ("+") lines."""
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    found = [line for line in lines if line[:3] not in {"---", "+++"} and line[:2] != "@@"]
    return tuple(found[:_MAX_DIFFERENCES])


def reverse_work_order(
    record: RehearsalRecord, scratch: ScratchDatabase
) -> tuple[WorkOrder | None, str]:
    """Return the order that reverts the rehearsed steps, planned in the copy as it is now;
    or None and why there is none."""
    if record.direction is not Direction.FORWARDS:
        return None, "Only a forward plan can be migrated back."
    wanted = {(app, name) for app, name, _ in record.steps}
    with copy_connection(record.database, scratch):
        try:
            graphs.forget_graph(record.database)
            request = PlanRequest(
                database=record.database, targets=_before(record.database, wanted)
            )
            plan = make_plan(request)[0]
        except RouteError as error:
            return None, f"Cannot plan the reverse migration: {error}"
        finally:
            graphs.forget_graph(record.database)
    if {(step.app, step.name) for step in plan.steps} != wanted:
        return None, "Migrating each app back would also revert other migrations."
    stuck = [step.label for step in plan.steps if not step.reversible]
    if stuck:
        return None, f"Irreversible: {', '.join(stuck)}."
    order = WorkOrder(
        run=record.id,
        database=record.database,
        direction=plan.direction,
        mode=Mode.APPLY,
        targets=plan.targets,
        fingerprint=plan.fingerprint,
        steps=tuple((step.app, step.name, step.digest) for step in plan.steps),
        scratch=scratch,
    )
    return order, ""


def _before(database: str, wanted: set[tuple[str, str]]) -> tuple[str, ...]:
    """Return the target of each app: its last migration that is not to be reverted."""
    graph = graphs.read_graph(database)
    found: dict[str, str] = {}
    for app, name in sorted(wanted):
        parents = graph.loader.graph.node_map[(app, name)].parents
        of_app = [key.key for key in parents if key.key[0] == app]
        if not any(key in wanted for key in of_app):
            found[app] = f"{app}.{of_app[0][1]}" if of_app else f"{app}.zero"
    return tuple(found.values())


logger = logging.getLogger("migration_route.execution.rehearsal")

_TICK = 0.2  # seconds to listen for a message of the worker


class RehearsalInterrupted(Exception):
    """This process received a shutdown signal."""


class RehearsalRunner:
    """Runs one rehearsal, from the copy to the report."""

    begins_as = RehearsalState.COPYING

    def __init__(
        self, record: RehearsalRecord, children: list[Child], signals: ShutdownSignals
    ) -> None:
        self._record = record
        self._children = children
        self._signals = signals
        self._report = Report()
        self._last_heartbeat = 0.0

    def conduct(self) -> RehearsalRecord:
        """Carry it out, under the lock of the rehearsals of its database."""
        if self._record.state is not RehearsalState.QUEUED:
            raise InvalidState(
                f"Rehearsal {self._record.id} is {self._record.state}, not queued."
            )
        vendor = vendor_of(self._record.database)
        with (
            closing(private_connection(self._record.database)) as connection,
            try_lock(vendor.lock(connection, LockSlot.REHEARSAL)) as is_free,
        ):
            if not is_free:
                return self._end(step_error_of(ActiveRehearsal()))
            return self._conduct_locked(connection)

    def _conduct_locked(self, connection: BaseDatabaseWrapper) -> RehearsalRecord:
        error: StepError | None
        self._record = rehearsals.move(
            self._record.id,
            to=self.begins_as,
            expected={RehearsalState.QUEUED},
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=clock.now(),
        )
        remove_leftovers(self._record.database, connection, but=self._record.id)
        try:
            error = self._rehearse(connection)
        except RehearsalInterrupted:
            error = StepError(
                type="Interrupted",
                message=f"The rehearsal received {self._signals.name}.",
            )
        except (RouteError, DatabaseFailure, OSError) as problem:
            logger.exception("Rehearsal %s failed.", self._record.id)
            error = step_error_of(problem)
        finally:
            for child in self._children:
                child.kill()
        is_removed = self._remove(connection)
        return self._end(error, is_removed=is_removed)

    def _rehearse(self, connection: BaseDatabaseWrapper) -> StepError | None:
        record, start = self._record, time.monotonic()
        scratch = self._make_copy(connection)
        self._report = replace(self._report, copy_ms=milliseconds(start))
        self._record = rehearsals.move(
            record.id, to=RehearsalState.RUNNING, expected={RehearsalState.COPYING}
        )
        before = read_copy_schema(record.database, scratch) if record.round_trip else []
        start = time.monotonic()
        observed = RehearsalRecorder(initial_steps(record))
        order = work_order_of(record, scratch=scratch)
        error = self._execute(self._children[0], order, observed)
        self._report = replace(
            self._report,
            steps=observed.steps,
            duration_ms=milliseconds(start),
            output=observed.output,
            limits=recorder.limitations_of(record, observed),
        )
        if error is None and record.round_trip:
            error = self._migrate_back(scratch, before)
        return error

    def _make_copy(self, connection: BaseDatabaseWrapper) -> ScratchDatabase:
        record = self._record
        if way := route_settings().database(record.database).rehearsal_alias:
            separation = require_other_database(record.database, connection, way)
            return ScratchDatabase(alias=way, separation=separation)
        copies, with_data = copies_of(record.database), record.kind is CopyKind.DATA
        copies.require(connection, with_data=with_data)
        name = scratch_name(record.id)
        # Recorded before it exists, so that a later reader knows what to remove.
        rehearsals.update_rehearsal(record.id, scratch_database=name, is_removed=False)
        copies.make(connection, name, with_data=with_data, alive=self._stay_alive)
        created = settings_of(record.database, name=name)
        separation = _require_separate(record.database, connection, created)
        return ScratchDatabase(name=name, separation=separation)

    def _migrate_back(
        self, scratch: ScratchDatabase, before: list[str]
    ) -> StepError | None:
        """Revert every step, and compare the schema with the one before."""
        record = self._record
        order, reason = reverse_work_order(record, scratch)
        if order is None:
            about = Limitation(code="no_way_back", message=reason)
            self._report = replace(self._report, limits=(*self._report.limits, about))
            return None
        observed = RehearsalRecorder(
            tuple(
                ObservedStep(app=app, name=name, direction=order.direction)
                for app, name, _ in order.steps
            )
        )
        error = self._execute(self._children[1], order, observed)
        self._report = replace(self._report, back=observed.steps)
        if error is None:
            after = read_copy_schema(record.database, scratch)
            found = schema_differences(before, after)
            self._report = replace(self._report, differences=found)
        return error

    def _execute(
        self, child: Child, order: WorkOrder, observed: RehearsalRecorder
    ) -> StepError | None:
        """Let a worker carry out an order; every gate is open."""
        child.order(order)
        while not child.is_silent:
            for said in child.listen(_TICK):
                if observed.hear(said):
                    child.answer(go=True)
            self._stay_alive()
            if child.has_ended():
                for said in [*child.listen(0), *child.listen(0)]:
                    observed.hear(said)
                break
        return observed.ended(child.wait())

    def _stay_alive(self) -> None:
        """Record a heartbeat; raises `Interrupted` when this process received a signal.

        Nothing is written while an SQLite file is copied: that would restart the copy.
        """
        if self._signals.name:
            raise RehearsalInterrupted
        every = route_settings().heartbeat_timeout.total_seconds() / 3
        is_file = not vendor_of(self._record.database).lock_is_of_session
        copying = self._record.state is RehearsalState.COPYING
        if time.monotonic() - self._last_heartbeat > every and not (is_file and copying):
            self._last_heartbeat = time.monotonic()
            with suppress(DatabaseFailure):  # the lock and later heartbeats show it as well
                rehearsals.update_rehearsal(self._record.id)

    def _remove(self, connection: BaseDatabaseWrapper) -> bool:
        """Remove the copy; False if that is left to the next reader."""
        try:
            found = rehearsals.find_rehearsal(self._record.id)
            if not found.is_removed:
                if not connection.is_usable():
                    connection.close()  # it was idle for long: reconnect
                copies_of(found.database).remove(connection, found.scratch_database)
        except (RouteError, DatabaseFailure, OSError):
            logger.exception("Could not remove the copy of rehearsal %s.", self._record.id)
            return False
        return True

    def _end(self, error: StepError | None, *, is_removed: bool = True) -> RehearsalRecord:
        to = RehearsalState.SUCCEEDED if error is None else RehearsalState.FAILED
        try:
            return rehearsals.move(
                self._record.id,
                to=to,
                expected=ACTIVE,
                error=error,
                report=self._report,
                is_removed=is_removed,
            )
        except InvalidState:  # another process concluded it as dead
            return rehearsals.find_rehearsal(self._record.id)


def work_order_of(
    record: RehearsalRecord,
    *,
    scratch: ScratchDatabase | None = None,
    in_place: InPlaceLimits | None = None,
) -> WorkOrder:
    """Return the order for a worker: on a copy, or in place."""
    return WorkOrder(
        run=record.id,
        database=record.database,
        direction=record.direction,
        mode=Mode.APPLY,
        targets=record.targets,
        fingerprint=record.fingerprint,
        steps=record.steps,
        phase=record.phase or "",
        left_out=record.left_out,
        scratch=scratch,
        in_place=in_place,
    )


def initial_steps(record: RehearsalRecord) -> tuple[ObservedStep, ...]:
    """Return the steps of a rehearsal as they are before the first one.

    The rows are those of the database that is copied: a copy without data, or another
    database, has others.
    """
    rows: Mapping[tuple[str, str], int] = {}
    is_other = not record.in_place and route_settings().database(record.database)
    if record.kind is CopyKind.DATA and not (is_other and is_other.rehearsal_alias):
        rows = rows_of_steps(
            record.database, [(app, name) for app, name, _ in record.steps]
        )
    return tuple(
        ObservedStep(
            app=app, name=name, direction=record.direction, rows=rows.get((app, name))
        )
        for app, name, _ in record.steps
    )


def step_error_of(error: Exception) -> StepError:
    """Return the error of the rehearsal itself."""
    return StepError(
        type=type(error).__name__, message=message_of(error), sqlstate=sqlstate_of(error)
    )


def milliseconds(start: float) -> int:
    """Return the milliseconds since `start`, by `time.monotonic`."""
    return round((time.monotonic() - start) * 1000)
