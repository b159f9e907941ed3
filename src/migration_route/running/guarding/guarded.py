"""How does a typed `manage.py migrate` hold the lock, from its first signal to its last?

It takes the lock, reads the recorder again, drops what was applied meanwhile, and says on
the ledger who did what. Whatever fails in between, the lock is given back.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from django.apps import apps as installed_apps
from django.core.management.base import CommandError
from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_migrate

from migration_route.conf import route_settings
from migration_route.connecting import new_connection, require_direct
from migration_route.error_texts import message_of
from migration_route.errors import DatabaseUnavailable, PoolerDetected
from migration_route.ledger.reading import active_runs, unresolved_runs
from migration_route.running.guarding import catching_up, typed_record
from migration_route.running.supervision.claiming import in_the_way
from migration_route.targets import owner_of
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Slot, TargetLock
from migration_route.vocabulary import WaitingReason

_POLL = 0.1  # seconds between two looks at a lock that is taken


class Guarded:
    """One typed `migrate` of one database."""

    def __init__(
        self, alias: str, plan: list[tuple[Migration, bool]], *, ended: Callable[[], Any]
    ) -> None:
        """`plan` is Django's own list: it is narrowed in place; `ended` is called once."""
        self.alias = alias
        self.plan = plan
        self.is_under_way = False  # the executor is at work
        self._ended = ended
        self._process = os.getpid()
        self._connection: BaseDatabaseWrapper | None = None
        self._lock: TargetLock | None = None
        self._target = owner_of(alias)  # as the ledger calls it
        self._record = typed_record.TypedRecord(self._target)
        self._uid = f"migration_route.guard.{id(self)}"
        self._ending = threading.RLock()  # a finaliser may come in between
        self._has_ended = False
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def is_for(self, plan: list[tuple[Migration, bool]] | None) -> bool:
        """Tell whether this is the plan of the same command."""
        return plan is self.plan

    # --- before -----------------------------------------------------------------------

    def begin(self, apps: object) -> None:
        """Take the lock and catch up. Raises `CommandError` when it stays taken.

        `apps` lives as long as the command: when it goes, so does the lock.
        """
        since = time.monotonic()
        try:
            require_direct(self.alias)
        except PoolerDetected as error:
            _warn(f"This migrate takes no lock. {error}")
        except DatabaseFailure as error:
            raise _unlockable(self.alias, error) from error
        else:
            self._take()
        try:
            dropped = self._drop_what_is_done()
            self._record.begin(
                self.plan,
                locked=self._lock is not None,
                waited=time.monotonic() - since,
                dropped=dropped,
                unresolved=self._warn_of_what_was_left(),
            )
            catching_up.expect(self)
            post_migrate.connect(self._after, weak=False, dispatch_uid=self._uid)
            if apps is not None:
                self._finalizer = weakref.finalize(apps, self.end)
        except BaseException as error:
            self.end(error)
            raise

    def _take(self) -> None:
        self._connection = new_connection(self.alias)
        self._connection.inc_thread_sharing()  # it may be closed by another thread
        vendor = vendor_of(self.alias)
        lock = vendor.lock(self._connection, Slot.SUPERVISOR)
        worker_lock = vendor.lock(self._connection, Slot.WORKER)
        try:
            self._wait(lock, worker_lock)
        except (DatabaseFailure, OSError) as error:
            self._connection.close()
            raise _unlockable(self.alias, error) from error
        except BaseException:
            self._connection.close()
            raise
        self._lock = lock

    def _wait(self, lock: TargetLock, worker_lock: TargetLock) -> None:
        seconds = route_settings().guard_wait.total_seconds()
        deadline = time.monotonic() + seconds
        told = False
        while reason := in_the_way(lock, worker_lock):
            if time.monotonic() > deadline:
                raise CommandError(self._refusal(reason))
            if not told:
                told = True
                _warn(f"Waiting up to {seconds:g} s. {self._who(reason)}")
            time.sleep(_POLL)  # a session lock is polled, never waited for

    def _who(self, reason: WaitingReason) -> str:
        """Say who holds the lock, as far as the ledger knows."""
        if reason is WaitingReason.ORPHAN_BACKEND:
            return f"A session of an earlier run is still at work on {self.alias!r}."
        try:
            run = active_runs().get(self._target)
        except (DatabaseFailure, DatabaseUnavailable):
            run = None
        if run is None:
            return f"Another process is migrating {self.alias!r}."
        return f"Run {run.id}, which is {run.state}, owns {self.alias!r}."

    def _refusal(self, reason: WaitingReason) -> str:
        seconds = route_settings().guard_wait.total_seconds()
        who = self._who(reason)
        self._record.refuse(who)
        return (
            f"{who} Nothing was applied, after waiting for {seconds:g} s. Type it again "
            "when that has ended ('manage.py migration_route runs' lists the runs), give "
            'it longer with MIGRATION_ROUTE["GUARD_WAIT"], or set '
            'MIGRATION_ROUTE["GUARD"] = False to migrate without the lock.'
        )

    def _drop_what_is_done(self) -> list[str]:
        """Narrow the plan, in place, to what is still to do now that the lock is held."""
        applied = MigrationLoader(connections[self.alias]).applied_migrations
        kept, dropped = [], []
        for migration, backwards in self.plan:
            key = (migration.app_label, migration.name)
            if (key in applied) is backwards:
                kept.append((migration, backwards))
            else:
                dropped.append(".".join(key))
        self.plan[:] = kept
        return dropped

    def _warn_of_what_was_left(self) -> str:
        """Warn of a run that left this database in between; a shell is not shut out."""
        try:
            run = unresolved_runs().get(self._target, "")
        except (DatabaseFailure, DatabaseUnavailable):
            return ""
        if run:
            _warn(
                f"Run {run} stopped midway and left {self.alias!r} in between. This "
                f"migrate goes on all the same; 'manage.py migration_route show {run}' "
                "tells more."
            )
        return run

    # --- during and after -------------------------------------------------------------

    def carry(self, work: Callable[[], Any], *, mode: str) -> Any:
        """Let the executor work; when it fails, that is the end."""
        self._record.mode = mode
        self.is_under_way = True
        try:
            return work()
        except BaseException as error:
            self.end(error)
            raise
        finally:
            self.is_under_way = False
            self._record.carried = True

    def _after(self, *, sender: Any, plan: Any = None, **_: Any) -> None:
        if plan is self.plan and sender is _last_app():
            self.end()

    def end(self, error: BaseException | None = None) -> None:
        """Say how it ended, and give the lock back; only the first call counts."""
        if os.getpid() != self._process:
            return  # a fork of the process that has the lock
        with self._ending:
            if self._has_ended:
                return
            self._has_ended = True
        if self._finalizer is not None:
            self._finalizer.detach()
        self._ended()
        catching_up.forget(self)
        post_migrate.disconnect(dispatch_uid=self._uid)
        held = self._lock is None or self._lock.is_held()
        try:
            self._record.finish(error, held=held)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._connection is None:
            return
        try:
            if self._lock is not None and not self._lock.release():
                _warn(f"The lock of {self.alias!r} was lost while this migrate held it.")
        except DatabaseFailure:
            _warn(f"The lock of {self.alias!r} was lost while this migrate held it.")
        finally:
            self._connection.close()


def _last_app() -> Any:
    """Return the app whose `post_migrate` is the last one."""
    configs = installed_apps.get_app_configs()
    return [config for config in configs if config.models_module is not None][-1]


def _unlockable(alias: str, error: Exception) -> CommandError:
    return CommandError(
        f"The database {alias!r} could not be locked: {message_of(error)}. "
        "Nothing was applied. "
        'MIGRATION_ROUTE["GUARD"] = False migrates without the lock.'
    )


def _warn(text: str) -> None:
    sys.stderr.write(f"migration_route: {text}\n")
    sys.stderr.flush()
