"""Installs and upgrades the tables of the ledger.

It applies only this app's migrations, before the first write, so that the first run on an
empty database is recorded. A read never creates anything.
"""

from __future__ import annotations

import logging
import time
from importlib import import_module
from pkgutil import iter_modules

from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import translation

from migration_route.conf import route_settings
from migration_route.conf.databases import (
    private_connection,
    require_session_connection,
    using_private_connection,
)
from migration_route.core.enums import OWN_APP
from migration_route.core.errors import ActiveRun, DatabaseUnavailable, Misconfigured
from migration_route.vendors import refusal_of, vendor_of
from migration_route.vendors.base import LockSlot

logger = logging.getLogger("migration_route.ledger")

_POLL = 0.1


def is_installed(alias: str) -> bool:
    """Whether the ledger's tables exist.

    Raises `django.db.DatabaseError` when the database is unavailable.
    """
    recorder = MigrationRecorder(connections[alias])
    return (
        recorder.has_table()
        and recorder.migration_qs.filter(app=OWN_APP, name="0001_initial").exists()
    )


def install() -> bool:
    """Install or upgrade the ledger's tables; return whether anything changed.

    Raises `ActiveRun` when the database stays locked, `PoolerDetected` when it cannot be
    locked, `DatabaseUnavailable` when the database refuses to create the tables, and
    `django.db.DatabaseError` when creating them fails otherwise.
    """
    alias = route_settings().ledger_database
    with using_private_connection(alias):
        if _is_up_to_date(alias):
            return False
        require_session_connection(alias)
        try:
            return _install_locked(alias)
        except DatabaseFailure as error:
            if (refusal := refusal_of(error)) is None:
                raise
            raise DatabaseUnavailable(
                f"Installing the ledger in the database {alias!r} failed. "
                f"{refusal.message}",
                hint=refusal.hint,
            ) from error


def _is_up_to_date(alias: str) -> bool:
    return _own_migrations() <= _applied(alias)


def _own_migrations() -> set[str]:
    """Return the names of this app's migrations, without building the whole graph."""
    package, _ = MigrationLoader.migrations_module(OWN_APP)
    if package is None:
        raise Misconfigured(
            f"MIGRATION_MODULES disables the migrations of {OWN_APP}.",
            hint=f"Remove {OWN_APP!r} from MIGRATION_MODULES.",
        )
    paths = import_module(package).__path__
    return {name for _, name, is_package in iter_modules(paths) if not is_package}


def _applied(alias: str) -> set[str]:
    recorder = MigrationRecorder(connections[alias])
    if not recorder.has_table():
        return set()
    return set(recorder.migration_qs.filter(app=OWN_APP).values_list("name", flat=True))


def _install_locked(alias: str) -> bool:
    lock_connection = private_connection(alias)
    try:
        lock = vendor_of(alias).lock(lock_connection, LockSlot.SUPERVISOR)
        deadline = time.monotonic() + route_settings().run_lock_timeout.total_seconds()
        while not lock.try_acquire():
            if time.monotonic() > deadline:
                raise ActiveRun(
                    "The ledger cannot be installed or upgraded: another run, or a "
                    f"manual migrate, has locked the database {alias!r}."
                )
            time.sleep(_POLL)  # a session lock is polled: never block on it
            if _is_up_to_date(alias):
                return False  # another process did it; a later lock owner may take long
        try:
            # The executor reads again what other processes did meanwhile. It imports
            # every migration of the project, untranslated as `migrate` does.
            with translation.override(None):
                executor = MigrationExecutor(connections[alias])
                executor.migrate(executor.loader.graph.leaf_nodes(OWN_APP))
        finally:
            if not lock.release():
                logger.warning(
                    "The lock of %s was lost while installing the ledger.", alias
                )
        return True
    finally:
        lock_connection.close()
