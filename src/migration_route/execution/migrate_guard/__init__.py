"""How does a typed `manage.py migrate` keep to the rules of the route?

May a typed `manage.py migrate` begin? It takes the same lock as a run.

Heard by Django's own signal, so that no command is overridden: whichever package brings
the project's `migrate` along, it is guarded. Test databases are left alone.
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

_aside: set[str] = set()  # databases that this process has locked already, as a worker
_held: dict[tuple[int, str], GuardedMigrate] = {}  # by thread and database


def watch() -> None:
    """Hear every `migrate` of this process from now on."""
    pre_migrate.connect(_before, dispatch_uid="migration_route.guard")


@contextmanager
def bypass_guard(alias: str) -> Iterator[None]:
    """Let this process migrate a database that its supervisor has locked."""
    _aside.add(alias)
    try:
        yield
    finally:
        _aside.discard(alias)


def _before(
    *, using: str, plan: list[Any] | None = None, apps: Any = None, **_: Any
) -> None:
    """Take the lock at the first app's signal, before any other app does something.

    Raises `CommandError` when somebody else keeps it.
    """
    key = (threading.get_ident(), using)
    earlier = _held.get(key)
    if earlier is not None and earlier.is_for(plan):
        return
    if not plan or not _is_guarded(using):
        return
    if earlier is not None:
        if earlier.is_under_way:
            return  # a migration that calls `migrate` itself: the lock is ours already
        earlier.end()  # it was left behind when something around it failed
    # Only now: every process of the project loads this module, few of them migrate.
    from migration_route.execution.migrate_guard.guarded import GuardedMigrate

    guarded = GuardedMigrate(using, plan, ended=lambda: _held.pop(key, None))
    guarded.begin(apps)
    _held[key] = guarded


def _is_guarded(alias: str) -> bool:
    """Tell whether the lock of this database is for this process to take."""
    if not route_settings().guard or alias in _aside:
        return False
    try:
        connection = connections[alias]
        with suppress(DatabaseUnavailable):  # the lock is taken, and nothing recorded
            vendor_of(route_settings().ledger_database)
        if vendor_of(alias).is_private(connection):
            return False
    except (Misconfigured, ConnectionDoesNotExist):
        return False  # a database of a kind that the route cannot lock
    # Django gives a test database its own name before it migrates it.
    name = str(connection.settings_dict["NAME"])
    wanted = (connection.settings_dict.get("TEST") or {}).get("NAME")
    is_test = Path(name).name.startswith(TEST_DATABASE_PREFIX)
    return not is_test and name != str(wanted)
