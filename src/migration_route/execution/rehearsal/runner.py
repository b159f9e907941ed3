"""Who carries out a rehearsal? One process, which makes the copy, lets a worker migrate
it, and removes it; the copy's lock goes with this process, however it ends.

Is the copy another database, and is its schema what it was?

Which order leads a copy back to where it was?
"""

from __future__ import annotations

import difflib
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.conf.databases import own_settings, private_connection
from migration_route.core import clock
from migration_route.core.enums import CopyKind, Direction, Mode, RehearsalState
from migration_route.core.error_texts import message_of, sqlstate_of
from migration_route.core.errors import (
    ActiveRehearsal,
    CannotRehearse,
    InvalidState,
    RouteError,
)
from migration_route.execution.messages import InPlaceLimits, ScratchDatabase, WorkOrder
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.execution.rehearsal import recorder
from migration_route.execution.rehearsal.reaper import remove_what_is_left
from migration_route.execution.rehearsal.recorder import RehearsalRecorder
from migration_route.execution.supervisor.child import Child
from migration_route.execution.worker.sandbox import settings_of
from migration_route.ledger import rehearsals
from migration_route.ledger.evidence import StepError
from migration_route.ledger.rehearsals import (
    ACTIVE,
    Limitation,
    ObservedStep,
    RehearsalRecord,
    Report,
)
from migration_route.planning import graph as graphs
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.vendors import copies_of, identity_of, vendor_of
from migration_route.vendors.base import LockSlot
from migration_route.vendors.base_copies import scratch_name
from migration_route.vendors.base_identity import Separation, opened, require_separate

_MOST = 200  # lines of difference


def require_other(database: str, connection: BaseDatabaseWrapper, alias: str) -> Separation:
    """Return the identities of a database and of the one that another alias leads to.

    The caller holds the lock of the database's rehearsals: it cannot be taken again in
    the same database. Raises `CannotRehearse` where both are the same database, where
    that is not known, and where the other one is not of the same kind.
    """
    if connections[alias].vendor != connection.vendor:
        raise CannotRehearse(
            f"{alias!r} is not a database of the same kind as {database!r}."
        )
    found = _require_separate(database, connection, settings_of(database, alias=alias))
    other = private_connection(alias)
    try:
        lock = vendor_of(alias).lock(other, LockSlot.REHEARSAL)
        if not lock.try_acquire():
            raise CannotRehearse(
                f"{alias!r} leads to the same database as {database!r}, or is in use by "
                "another rehearsal.",
                hint='"rehearse_on" must name a database that may be changed.',
            )
        lock.release()
    finally:
        other.close()
    return found


def require_made(database: str, connection: BaseDatabaseWrapper, name: str) -> Separation:
    """Return the identities of a database and of its copy of that name.

    Raises `CannotRehearse` where the settings of the copy lead elsewhere.
    """
    return _require_separate(database, connection, settings_of(database, name=name))


def _require_separate(
    database: str, connection: BaseDatabaseWrapper, copy_settings: dict[str, Any]
) -> Separation:
    """Compare with the database as `connection` reaches it, and as the project does."""
    with opened(connection, own_settings(database, copy_settings)) as copy:
        found = require_separate(connection, copy)
        if route_settings().database(database).direct:
            usual = connections[database]
            with opened(usual, own_settings(database, usual.settings_dict)) as same:
                require_separate(same, copy)
    return found


@contextmanager
def copy_connection(
    database: str, scratch: ScratchDatabase
) -> Iterator[BaseDatabaseWrapper]:
    """Let the alias lead to the copy, in this thread and block.

    Raises `CannotRehearse` where it leads to any other database.
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
                f"The connection to the copy stands in the database {found.label!r}: its "
                "schema was not read."
            )
        connections[database] = copy
        yield copy
    finally:
        connections[database] = usual
        copy.close()


def schema(database: str, scratch: ScratchDatabase) -> list[str]:
    """Return the schema of the copy as lines."""
    with copy_connection(database, scratch) as connection:
        return copies_of(database).schema(connection)


def differences(before: list[str], after: list[str]) -> tuple[str, ...]:
    """Return the lines that went ("-") and came ("+")."""
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    found = [line for line in lines if line[:3] not in {"---", "+++"} and line[:2] != "@@"]
    return tuple(found[:_MOST])


def order_back(
    record: RehearsalRecord, scratch: ScratchDatabase
) -> tuple[WorkOrder | None, str]:
    """Return the order, or why there is none: read in the copy as it is now."""
    if record.direction is not Direction.FORWARDS:
        return None, "Only the way forwards is taken back."
    wanted = {(app, name) for app, name, _ in record.steps}
    with copy_connection(record.database, scratch):
        try:
            graphs.forget(record.database)
            request = PlanRequest(
                database=record.database, targets=_before(record.database, wanted)
            )
            plan = make_plan(request)[0]
        except RouteError as error:
            return None, f"No plan leads back: {error}"
        finally:
            graphs.forget(record.database)
    if {(step.app, step.name) for step in plan.steps} != wanted:
        return None, "Going back to where each app was would take other steps along."
    stuck = [step.label for step in plan.steps if not step.reversible]
    if stuck:
        return None, f"There is no way back from {', '.join(stuck)}."
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
    """Return the target of each app: its last migration that is not to be taken back."""
    graph = graphs.read_graph(database)
    found: dict[str, str] = {}
    for app, name in sorted(wanted):
        parents = graph.loader.graph.node_map[(app, name)].parents
        of_app = [key.key for key in parents if key.key[0] == app]
        if not any(key in wanted for key in of_app):
            found[app] = f"{app}.{of_app[0][1]}" if of_app else f"{app}.zero"
    return tuple(found.values())


logger = logging.getLogger("migration_route.execution.rehearsal")

_TICK = 0.2  # seconds between two looks at the signals while the worker is silent


class Interrupted(Exception):
    """This process was told to end."""


class RehearsalRunner:
    """Conducts one rehearsal, from the copy to the report."""

    begins_as = RehearsalState.COPYING

    def __init__(
        self, record: RehearsalRecord, children: list[Child], signals: ShutdownSignals
    ) -> None:
        self._record = record
        self._children = children
        self._signals = signals
        self._report = Report()
        self._beat = 0.0

    def conduct(self) -> RehearsalRecord:
        """Carry it out, under the lock of the rehearsals of its database."""
        if self._record.state is not RehearsalState.QUEUED:
            raise InvalidState(
                f"Rehearsal {self._record.id} is {self._record.state}, not queued."
            )
        connection = private_connection(self._record.database)
        try:
            return self._conduct_locked(connection)
        finally:
            connection.close()

    def _conduct_locked(self, connection: BaseDatabaseWrapper) -> RehearsalRecord:
        lock = vendor_of(self._record.database).lock(connection, LockSlot.REHEARSAL)
        if not lock.try_acquire():
            return self._end(failure(ActiveRehearsal()))
        error: StepError | None
        try:
            self._record = rehearsals.move(
                self._record.id,
                to=self.begins_as,
                expected={RehearsalState.QUEUED},
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=clock.now(),
            )
            remove_what_is_left(self._record.database, connection, but=self._record.id)
            try:
                error = self._carry_out(connection)
            except Interrupted:
                error = StepError(
                    type="Interrupted",
                    message=f"The rehearsal was told to end ({self._signals.name}).",
                )
            except (RouteError, DatabaseFailure, OSError) as problem:
                logger.exception("Rehearsal %s failed.", self._record.id)
                error = failure(problem)
            finally:
                for child in self._children:
                    child.kill()
            is_removed = self._remove(connection)
            return self._end(error, is_removed=is_removed)
        finally:
            lock.release()

    def _carry_out(self, connection: BaseDatabaseWrapper) -> StepError | None:
        record, start = self._record, time.monotonic()
        scratch = self._make_copy(connection)
        self._report = replace(self._report, copy_ms=milliseconds(start))
        self._record = rehearsals.move(
            record.id, to=RehearsalState.RUNNING, expected={RehearsalState.COPYING}
        )
        before = schema(record.database, scratch) if record.and_back else []
        start = time.monotonic()
        hearing = RehearsalRecorder(not_started(record))
        order = order_of(record, scratch=scratch)
        error = self._walk(self._children[0], order, hearing)
        self._report = replace(
            self._report,
            steps=hearing.steps,
            duration_ms=milliseconds(start),
            output=hearing.output,
            limits=recorder.of(record, hearing),
        )
        if error is None and record.and_back:
            error = self._walk_back(scratch, before)
        return error

    def _make_copy(self, connection: BaseDatabaseWrapper) -> ScratchDatabase:
        record = self._record
        if way := route_settings().database(record.database).rehearse_on:
            separation = require_other(record.database, connection, way)
            return ScratchDatabase(alias=way, separation=separation)
        copies, with_data = copies_of(record.database), record.kind is CopyKind.DATA
        copies.require(connection, with_data=with_data)
        name = scratch_name(record.id)
        # On record before it is there: whoever looks later knows what to remove.
        rehearsals.note(record.id, scratch=name, is_removed=False)
        copies.make(connection, name, with_data=with_data, alive=self._stay_alive)
        separation = require_made(record.database, connection, name)
        return ScratchDatabase(name=name, separation=separation)

    def _walk_back(self, scratch: ScratchDatabase, before: list[str]) -> StepError | None:
        """Take every step back, and compare the schema with that before."""
        record = self._record
        order, why_not = order_back(record, scratch)
        if order is None:
            about = Limitation(code="no_way_back", message=why_not)
            self._report = replace(self._report, limits=(*self._report.limits, about))
            return None
        hearing = RehearsalRecorder(
            tuple(
                ObservedStep(app=app, name=name, direction=order.direction)
                for app, name, _ in order.steps
            )
        )
        error = self._walk(self._children[1], order, hearing)
        self._report = replace(self._report, back=hearing.steps)
        if error is None:
            after = schema(record.database, scratch)
            found = differences(before, after)
            self._report = replace(self._report, differences=found)
        return error

    def _walk(
        self, child: Child, order: WorkOrder, hearing: RehearsalRecorder
    ) -> StepError | None:
        """Let a worker carry out an order; every gate is open."""
        child.order(order)
        while not child.is_silent:
            for said in child.listen(_TICK):
                if hearing.hear(said):
                    child.answer(go=True)
            self._stay_alive()
            if child.has_ended():
                for said in [*child.listen(0), *child.listen(0)]:
                    hearing.hear(said)
                break
        return hearing.ended(child.wait())

    def _stay_alive(self) -> None:
        """Show that this process lives; raises `Interrupted` when it is told to end.

        Nothing is written while an SQLite file is copied: that would begin anew."""
        if self._signals.name:
            raise Interrupted
        every = route_settings().lease.total_seconds() / 3
        is_file = not vendor_of(self._record.database).lock_is_of_session
        copying = self._record.state is RehearsalState.COPYING
        if time.monotonic() - self._beat > every and not (is_file and copying):
            self._beat = time.monotonic()
            with suppress(DatabaseFailure):  # the lock tells as well, and later beats do
                rehearsals.note(self._record.id)

    def _remove(self, connection: BaseDatabaseWrapper) -> bool:
        """Remove the copy; return False where whoever looks next has to."""
        try:
            found = rehearsals.find_rehearsal(self._record.id)
            if not found.is_removed:
                if not connection.is_usable():
                    connection.close()  # it was idle for long: another one does as well
                copies_of(found.database).remove(connection, found.scratch)
        except (RouteError, DatabaseFailure, OSError):
            logger.exception("The copy of rehearsal %s was left.", self._record.id)
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
        except InvalidState:  # somebody took this process for dead
            return rehearsals.find_rehearsal(self._record.id)


def order_of(
    record: RehearsalRecord,
    *,
    scratch: ScratchDatabase | None = None,
    in_place: InPlaceLimits | None = None,
) -> WorkOrder:
    """Return what a worker is to carry out: on a copy, or in place."""
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


def not_started(record: RehearsalRecord) -> tuple[ObservedStep, ...]:
    """Return the steps of a rehearsal as they are before the first one."""
    return tuple(
        ObservedStep(app=app, name=name, direction=record.direction)
        for app, name, _ in record.steps
    )


def failure(error: Exception) -> StepError:
    """Return what the rehearsal itself failed for."""
    return StepError(
        type=type(error).__name__, message=message_of(error), sqlstate=sqlstate_of(error)
    )


def milliseconds(start: float) -> int:
    """Return how long ago that was, by `time.monotonic`."""
    return round((time.monotonic() - start) * 1000)
