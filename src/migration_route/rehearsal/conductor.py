"""Who carries out a rehearsal? One process, which makes the copy, lets a worker migrate
it, and removes it; the copy's lock goes with this process, however it ends.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import replace

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.connecting import new_connection
from migration_route.error_texts import message_of, sqlstate_of
from migration_route.errors import ActiveRehearsal, NotInThisState, RouteError
from migration_route.ledger import rehearsals
from migration_route.ledger.evidence import StepError
from migration_route.ledger.rehearsal_records import ACTIVE, RehearsalRecord
from migration_route.ledger.rehearsal_report import Limit, Report, SeenStep
from migration_route.rehearsal import copy_of, limits
from migration_route.rehearsal.hearing import Hearing
from migration_route.rehearsal.looking import remove_what_is_left
from migration_route.rehearsal.way_back import order_back
from migration_route.running.child import Child
from migration_route.running.messages import Bounds, Order, Scratch
from migration_route.running.signals import Signals
from migration_route.vendors import copies_of, vendor_of
from migration_route.vendors.copying import scratch_name
from migration_route.vendors.interface import Slot
from migration_route.vocabulary import CopyKind, Mode, RehearsalState

logger = logging.getLogger("migration_route.rehearsal")

_TICK = 0.2  # seconds between two looks at the signals while the worker is silent


class Interrupted(Exception):
    """This process was told to end."""


class Conductor:
    """Conducts one rehearsal, from the copy to the report."""

    begins_as = RehearsalState.COPYING

    def __init__(
        self, record: RehearsalRecord, children: list[Child], signals: Signals
    ) -> None:
        self._record = record
        self._children = children
        self._signals = signals
        self._report = Report()
        self._beat = 0.0

    def conduct(self) -> RehearsalRecord:
        """Carry it out, under the lock of the rehearsals of its database."""
        if self._record.state is not RehearsalState.QUEUED:
            raise NotInThisState(
                f"Rehearsal {self._record.id} is {self._record.state}, not queued."
            )
        connection = new_connection(self._record.database)
        try:
            return self._conduct_locked(connection)
        finally:
            connection.close()

    def _conduct_locked(self, connection: BaseDatabaseWrapper) -> RehearsalRecord:
        lock = vendor_of(self._record.database).lock(connection, Slot.REHEARSAL)
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
        before = copy_of.schema(record.database, scratch) if record.and_back else []
        start = time.monotonic()
        hearing = Hearing(not_started(record))
        order = order_of(record, scratch=scratch)
        error = self._walk(self._children[0], order, hearing)
        self._report = replace(
            self._report,
            steps=hearing.steps,
            duration_ms=milliseconds(start),
            output=hearing.output,
            limits=limits.of(record, hearing),
        )
        if error is None and record.and_back:
            error = self._walk_back(scratch, before)
        return error

    def _make_copy(self, connection: BaseDatabaseWrapper) -> Scratch:
        record = self._record
        if way := route_settings().database(record.database).rehearse_on:
            separation = copy_of.require_other(record.database, connection, way)
            return Scratch(alias=way, separation=separation)
        copies, with_data = copies_of(record.database), record.kind is CopyKind.DATA
        copies.require(connection, with_data=with_data)
        name = scratch_name(record.id)
        # On record before it is there: whoever looks later knows what to remove.
        rehearsals.note(record.id, scratch=name, is_removed=False)
        copies.make(connection, name, with_data=with_data, alive=self._stay_alive)
        separation = copy_of.require_made(record.database, connection, name)
        return Scratch(name=name, separation=separation)

    def _walk_back(self, scratch: Scratch, before: list[str]) -> StepError | None:
        """Take every step back, and compare the schema with that before."""
        record = self._record
        order, why_not = order_back(record, scratch)
        if order is None:
            about = Limit(code="no_way_back", message=why_not)
            self._report = replace(self._report, limits=(*self._report.limits, about))
            return None
        hearing = Hearing(
            tuple(
                SeenStep(app=app, name=name, direction=order.direction)
                for app, name, _ in order.steps
            )
        )
        error = self._walk(self._children[1], order, hearing)
        self._report = replace(self._report, back=hearing.steps)
        if error is None:
            after = copy_of.schema(record.database, scratch)
            found = copy_of.differences(before, after)
            self._report = replace(self._report, differences=found)
        return error

    def _walk(self, child: Child, order: Order, hearing: Hearing) -> StepError | None:
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
        except NotInThisState:  # somebody took this process for dead
            return rehearsals.find_rehearsal(self._record.id)


def order_of(
    record: RehearsalRecord,
    *,
    scratch: Scratch | None = None,
    in_place: Bounds | None = None,
) -> Order:
    """Return what a worker is to carry out: on a copy, or in place."""
    return Order(
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


def not_started(record: RehearsalRecord) -> tuple[SeenStep, ...]:
    """Return the steps of a rehearsal as they are before the first one."""
    return tuple(
        SeenStep(app=app, name=name, direction=record.direction)
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
