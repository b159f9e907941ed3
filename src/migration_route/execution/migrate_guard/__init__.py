"""Guards a `manage.py migrate` that a user types: it takes the same lock as a run.

The guard listens to Django's `pre_migrate` signal, so no command is overridden and it works
with whichever package provides the project's `migrate`. Test databases are not guarded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.db.models.signals import pre_migrate
from django.utils.connection import ConnectionDoesNotExist

from migration_route.conf import route_settings
from migration_route.core.errors import DatabaseUnavailable, Misconfigured
from migration_route.vendors import vendor_of

if TYPE_CHECKING:
    from migration_route.execution.migrate_guard.guarded import GuardedMigrate

_bypassed: set[str] = set()  # databases that the supervisor of this process has locked
_guarded: dict[tuple[int, str], GuardedMigrate] = {}  # by thread and database


def install_guard() -> None:
    """Guard every `migrate` of this process from now on."""
    pre_migrate.connect(_before, dispatch_uid="migration_route.guard")


@contextmanager
def bypass_guard(alias: str) -> Iterator[None]:
    """Let this process migrate a database that its supervisor has locked."""
    _bypassed.add(alias)
    try:
        yield
    finally:
        _bypassed.discard(alias)


def _before(
    *, using: str, plan: list[Any] | None = None, apps: Any = None, **_: Any
) -> None:
    """Take the lock at the signal of the first app, before any other receiver acts.

    Raises `CommandError` when another process keeps it.
    """
    key = (threading.get_ident(), using)
    earlier = _guarded.get(key)
    if earlier is not None and earlier.plan is plan:
        return
    if not plan or not _is_guarded(using):
        return
    if earlier is not None:
        if earlier.is_under_way:
            return  # a migration that calls `migrate` itself: already locked
        earlier.end()  # left open when the earlier command failed
    # Imported here: every process loads this module, few of them migrate.
    from migration_route.execution.migrate_guard.guarded import GuardedMigrate

    guarded = GuardedMigrate(using, plan, ended=lambda: _guarded.pop(key, None))
    guarded.begin(apps)
    _guarded[key] = guarded


def _is_guarded(alias: str) -> bool:
    """Return whether this process has to lock this database."""
    if not route_settings().guard_migrate or alias in _bypassed:
        return False
    try:
        connection = connections[alias]
        with suppress(DatabaseUnavailable):  # lock without recording
            vendor_of(route_settings().ledger_database)
        if vendor_of(alias).is_private(connection):
            return False
    except (Misconfigured, ConnectionDoesNotExist):
        return False  # a vendor that cannot be locked
    # Django gives a test database its own name before it migrates it.
    name = str(connection.settings_dict["NAME"])
    wanted = (connection.settings_dict.get("TEST") or {}).get("NAME")
    is_test = Path(name).name.startswith(TEST_DATABASE_PREFIX)
    return not is_test and name != str(wanted)
