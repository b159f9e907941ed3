"""One `manage.py migrate` that a user types, guarded from its first signal to its last.

It takes the lock, reads the recorder again, drops from the plan what was applied meanwhile,
and records on the ledger who ran what, where, and how it ended. The lock is released
whatever fails in between, and a failed write to the ledger never disturbs the migration.
"""

from __future__ import annotations

import logging
import os
import re
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

from migration_route.access.actors import shell_actor
from migration_route.conf import route_settings
from migration_route.conf.databases import (
    owner_of,
    private_connection,
    require_session_connection,
    using_private_connection,
)
from migration_route.core.enums import Action, Mode, WaitingReason
from migration_route.core.errors import DatabaseUnavailable, PoolerDetected
from migration_route.core.redaction import clipped, message_of
from migration_route.core.secret_patterns import MASK
from migration_route.execution.migrate_guard import state_refresh
from migration_route.execution.supervisor.run_lock import acquire_or_reason
from migration_route.ledger.entries import Draft, write_if_possible
from migration_route.ledger.queries import active_runs, unresolved_runs
from migration_route.planning import sources
from migration_route.planning.graph import read_recorder
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot, TargetLock

_LONGEST = 2000
_SECRET_OPTION = re.compile(r"password|passwd|secret|token|key", re.IGNORECASE)

logger = logging.getLogger("migration_route.ledger")


class MigrateAuditRecord:
    """Writes the two entries of one manual `migrate`, if it has anything to do."""

    def __init__(self, alias: str) -> None:
        self.mode: str = Mode.APPLY
        self.carried = False  # the executor has run
        self._alias = alias
        self._steps: list[tuple[str, str, bool]] = []  # app, name, backwards

    def begin(
        self,
        plan: list[tuple[Migration, bool]],
        *,
        locked: bool,
        waited: float,
        dropped: list[str],
        unresolved: str,
    ) -> None:
        """Record what is going to be done; nothing if another process has done it all."""
        self._steps = [(step.app_label, step.name, back) for step, back in plan]
        if self._steps:
            self._note(
                Action.MIGRATE_STARTED,
                {
                    "argv": _argv(),
                    "pid": os.getpid(),
                    "steps": [
                        [app, name, "backwards" if back else "forwards"]
                        for app, name, back in self._steps
                    ],
                    "locked": locked,
                    "waited_ms": round(waited * 1000),
                    "dropped": dropped,
                    "unresolved": unresolved,
                },
            )

    def finish(self, error: BaseException | None, *, held: bool) -> None:
        """Record how it ended, by what the recorder has now."""
        if self._steps:
            recorded = self._recorded()
            outcome = "failed" if error else "finished" if self.carried else "not_begun"
            self._note(
                Action.MIGRATE_FINISHED,
                {
                    "pid": os.getpid(),
                    "outcome": outcome,
                    "mode": self.mode,
                    "steps": None
                    if recorded is None
                    else [
                        [app, name, _state((app, name) in recorded, backwards=back)]
                        for app, name, back in self._steps
                    ],
                    "error": error
                    and {"type": type(error).__name__, "message": message_of(error)},
                    "lock_held": held,
                },
            )

    def refuse(self, why: str) -> None:
        facts = {"verb": "migrate", "code": "active_run", "message": why, "argv": _argv()}
        self._note(Action.REFUSED, facts)

    def _recorded(self) -> frozenset[tuple[str, str]] | None:
        try:
            with using_private_connection(self._alias):
                return read_recorder(self._alias)
        except (DatabaseFailure, DatabaseUnavailable):
            return None

    def _note(self, action: Action, facts: dict[str, Any]) -> None:
        actor = shell_actor()
        draft = Draft(
            action=action,
            actor_kind=actor.kind,
            actor_name=actor.name,
            database=self._alias,
            build=sources.build(),
            facts=facts,
        )
        try:
            with using_private_connection(route_settings().ledger_database):
                write_if_possible(draft)
        except DatabaseUnavailable as error:
            logger.warning("%s of %s was not recorded: %s", action, self._alias, error)


def _state(is_recorded: bool, *, backwards: bool) -> str:  # noqa: FBT001 - of two
    if backwards:
        return "still_recorded" if is_recorded else "reverted"
    return "applied" if is_recorded else "not_recorded"


def _argv() -> list[str]:
    words = [clipped(word, _LONGEST) for word in sys.argv]
    return [
        MASK if before.startswith("-") and _SECRET_OPTION.search(before) else word
        for before, word in zip(["", *words], words, strict=False)
    ]


_POLL = 0.1  # seconds between two attempts to acquire the lock


class GuardedMigrate:
    """One manual `migrate` of one database."""

    def __init__(
        self, alias: str, plan: list[tuple[Migration, bool]], *, ended: Callable[[], Any]
    ) -> None:
        """`plan` is Django's own list and is narrowed in place; `ended` is called once."""
        self.alias = alias
        self.plan = plan
        self.is_under_way = False  # the executor is running
        self._ended = ended
        self._process = os.getpid()
        self._connection: BaseDatabaseWrapper | None = None
        self._lock: TargetLock | None = None
        self._target = owner_of(alias)  # its name on the ledger
        self._record = MigrateAuditRecord(self._target)
        self._uid = f"migration_route.guard.{id(self)}"
        self._ending = threading.RLock()  # a finalizer may run in the same thread
        self._has_ended = False
        self._finalizer: weakref.finalize[Any, Any] | None = None

    # --- before -----------------------------------------------------------------------

    def begin(self, apps: object) -> None:
        """Take the lock and drop what is already done. Raises `CommandError` when the lock
        stays taken.

        `apps` lives as long as the command: when it is collected, the lock is released.
        """
        since = time.monotonic()
        try:
            require_session_connection(self.alias)
        except PoolerDetected as error:
            _warn(f"This migrate takes no lock. {error}")
        except DatabaseFailure as error:
            raise _lock_error(self.alias, error) from error
        else:
            self._take()
        try:
            dropped = self._drop_completed_steps()
            self._record.begin(
                self.plan,
                locked=self._lock is not None,
                waited=time.monotonic() - since,
                dropped=dropped,
                unresolved=self._warn_of_unresolved_run(),
            )
            state_refresh.subscribe(self)
            post_migrate.connect(self._after, weak=False, dispatch_uid=self._uid)
            if apps is not None:
                self._finalizer = weakref.finalize(apps, self.end)
        except BaseException as error:
            self.end(error)
            raise

    def _take(self) -> None:
        self._connection = private_connection(self.alias)
        self._connection.inc_thread_sharing()  # it may be closed by another thread
        vendor = vendor_of(self.alias)
        lock = vendor.lock(self._connection, LockSlot.SUPERVISOR)
        worker_lock = vendor.lock(self._connection, LockSlot.WORKER)
        try:
            self._wait(lock, worker_lock)
        except (DatabaseFailure, OSError) as error:
            self._connection.close()
            raise _lock_error(self.alias, error) from error
        except BaseException:
            self._connection.close()
            raise
        self._lock = lock

    def _wait(self, lock: TargetLock, worker_lock: TargetLock) -> None:
        seconds = route_settings().guard_migrate_timeout.total_seconds()
        deadline = time.monotonic() + seconds
        warned = False
        while reason := acquire_or_reason(lock, worker_lock):
            if time.monotonic() > deadline:
                raise CommandError(self._refusal(reason))
            if not warned:
                warned = True
                _warn(f"Waiting up to {seconds:g} s. {self._lock_holder(reason)}")
            time.sleep(_POLL)  # a session lock is polled, never waited for

    def _lock_holder(self, reason: WaitingReason) -> str:
        """Name the holder of the lock, as far as the ledger knows."""
        if reason is WaitingReason.ORPHANED_SESSION:
            return f"A session of an earlier run is still active on {self.alias!r}."
        try:
            run = active_runs().get(self._target)
        except (DatabaseFailure, DatabaseUnavailable):
            run = None
        if run is None:
            return f"Another process is migrating {self.alias!r}."
        return f"Run {run.id} ({run.state}) owns {self.alias!r}."

    def _refusal(self, reason: WaitingReason) -> str:
        seconds = route_settings().guard_migrate_timeout.total_seconds()
        who = self._lock_holder(reason)
        self._record.refuse(who)
        return (
            f"{who} Waited {seconds:g} s; nothing was applied. Run migrate again when that "
            "has ended ('manage.py migration_route runs' lists the runs), raise "
            'MIGRATION_ROUTE["GUARD_MIGRATE_TIMEOUT"], or set '
            'MIGRATION_ROUTE["GUARD_MIGRATE"] = False to migrate without the lock.'
        )

    def _drop_completed_steps(self) -> list[str]:
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

    def _warn_of_unresolved_run(self) -> str:
        """Warn of a run that left this database partially migrated; a manual migrate is not
        refused for that."""
        try:
            run = unresolved_runs().get(self._target, "")
        except (DatabaseFailure, DatabaseUnavailable):
            return ""
        if run:
            _warn(
                f"Run {run} left {self.alias!r} partially migrated. This migrate "
                f"continues; run 'manage.py migration_route show {run}' for details."
            )
        return run

    # --- during and after -------------------------------------------------------------

    def carry(self, work: Callable[[], Any], *, mode: str) -> Any:
        """Run the work of the executor; an exception ends the guard."""
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
        """Record how it ended and release the lock; only the first call counts."""
        if os.getpid() != self._process:
            return  # a fork of the process that has the lock
        with self._ending:
            if self._has_ended:
                return
            self._has_ended = True
        if self._finalizer is not None:
            self._finalizer.detach()
        self._ended()
        state_refresh.unsubscribe(self)
        post_migrate.disconnect(dispatch_uid=self._uid)
        held = self._lock is None or self._lock.is_held()
        try:
            self._record.finish(error, held=held)
        finally:
            self._release()

    def _release(self) -> None:
        if self._connection is None:
            return
        try:
            if self._lock is not None and not self._lock.release():
                _warn(f"The lock of {self.alias!r} was lost during this migrate.")
        except DatabaseFailure:
            _warn(f"The lock of {self.alias!r} was lost during this migrate.")
        finally:
            self._connection.close()


def _last_app() -> Any:
    """Return the app whose `post_migrate` is sent last."""
    configs = installed_apps.get_app_configs()
    return [config for config in configs if config.models_module is not None][-1]


def _lock_error(alias: str, error: Exception) -> CommandError:
    return CommandError(
        f"Cannot lock the database {alias!r}: {message_of(error)}. Nothing was applied. "
        'Set MIGRATION_ROUTE["GUARD_MIGRATE"] = False to migrate without the lock.'
    )


def _warn(text: str) -> None:
    sys.stderr.write(f"migration_route: {text}\n")
    sys.stderr.flush()
