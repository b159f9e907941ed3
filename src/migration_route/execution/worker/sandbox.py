"""Confines the worker of a rehearsal to the copy.

The routers and migrations of a project use the alias that they know, so in this process
that alias leads to the copy, and every other alias leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from migration_route.conf import route_settings
from migration_route.execution.messages import ScratchDatabase
from migration_route.execution.worker.instrumentation import Send, statement_wrapper
from migration_route.vendors import copies_of, vendor_of
from migration_route.vendors.base_rehearsal import Separation
from migration_route.vendors.sqlite.files import file_of_settings

# The options of all drivers that determine where a connection leads.
_TARGET_OPTIONS = (
    "host", "hostaddr", "port", "unix_socket", "service", "servicefile", "dbname",
    "database", "db", "read_default_file", "read_default_group", "init_command",
)  # fmt: skip
_NO_MAIL = "django.core.mail.backends.dummy.EmailBackend"


class SandboxViolation(DatabaseError):
    """A migration tried to access something outside the copy that it is rehearsed on."""


def settings_of(database: str, *, name: str = "", alias: str = "") -> dict[str, Any]:
    """Return the settings of a copy: of one that was created, by its name, or of the
    database of another alias."""
    if alias:
        return dict(connections.settings[alias])
    way = route_settings().database(database).direct_alias or database
    return copies_of(database).settings(dict(connections.settings[way]), name)


@contextmanager
def redirect_to_copy(
    database: str, scratch: ScratchDatabase | None, denied: Callable[[str], None]
) -> Iterator[None]:
    """Point the alias at the copy, and nothing elsewhere, until this process ends. `denied`
    receives each access outside it."""
    if scratch is None:
        yield
        return
    home = connections.settings[database]
    copy = settings_of(database, name=scratch.name, alias=scratch.alias)
    others = [dict(entry) for entry in connections.settings.values()]
    way = route_settings().database(database).direct_alias or database
    same = {_target(home), _target(connections.settings[way])}
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]
    for alias, entry in [*connections.settings.items()]:
        if _target(entry) in same:
            _set_database(alias, {**entry, **copy, "TEST": entry.get("TEST", {})})
    settings.EMAIL_BACKEND = _NO_MAIL  # real recipients
    _deny_others(_target(copy), scratch.separation, denied)
    names = {name for entry in others if (name := _name(entry))} - {_name(copy)}
    _deny_drivers(database, names, scratch.separation, denied)
    _guard_statements(database, scratch.separation.original.label, denied)
    yield


def _set_database(alias: str, entry: dict[str, Any]) -> None:
    connections.settings[alias] = entry
    settings.DATABASES[alias] = entry


def _target(entry: dict[str, Any]) -> tuple[str, ...]:
    """Return what determines the database of a connection, by its settings: with other
    settings it may lead elsewhere."""
    options = entry.get("OPTIONS") or {}
    words = (entry.get(key) for key in ("ENGINE", "HOST", "PORT", "NAME"))
    return tuple(str(word or "") for word in (*words, *map(options.get, _TARGET_OPTIONS)))


def _deny_others(
    target: tuple[str, ...], separation: Separation, denied: Callable[[str], None]
) -> None:
    """Let Django connect only to the copy: by the settings, and by the answer of the server
    before anything else is sent."""
    connect = BaseDatabaseWrapper.connect

    def connect_to_copy(self: BaseDatabaseWrapper) -> None:
        if _target(self.settings_dict) != target:
            _deny(self.alias, denied)
        initialize = self.init_connection_state

        def verify_and_initialize() -> None:
            found = vendor_of(self.alias).identity(self.connection)
            if not self.autocommit:
                self.connection.rollback()
            if found != separation.copy:
                self.connection.close()
                _deny(self.alias, denied)
            initialize()

        self.init_connection_state = verify_and_initialize  # type: ignore[method-assign]
        try:
            connect(self)
        finally:
            del self.init_connection_state

    BaseDatabaseWrapper.connect = connect_to_copy  # type: ignore[method-assign]


def _deny(alias: str, denied: Callable[[str], None]) -> NoReturn:
    denied(f"the database {alias!r}")
    raise SandboxViolation(
        f"A rehearsal can access only its copy, not the database {alias!r}."
    )


def _deny_drivers(
    database: str, names: set[str], separation: Separation, denied: Callable[[str], None]
) -> None:
    """Deny connections that bypass Django to a database of the settings, or to what the
    server reports as the original."""
    vendor = vendor_of(database)

    def deny(name: str) -> NoReturn:
        denied(f"the database {Path(name).name!r}, bypassing Django")
        raise SandboxViolation(
            f"A rehearsal can access only its copy, not {Path(name).name!r}."
        )

    def look(name: str) -> None:
        if name in names:
            deny(name)

    def verify(session: Any) -> None:
        found, original = vendor.identity(session), separation.original
        is_same_server = found.server in {"", original.server}
        if is_same_server and found.name in {"", original.name}:
            deny(found.label or original.label)

    copies_of(database).watch_drivers(look, verify)


def _name(entry: dict[str, Any]) -> str:
    """Return the name of a database as drivers know it; for SQLite, the whole path."""
    if "sqlite" in str(entry.get("ENGINE")):
        return str(file_of_settings(entry))
    options = entry.get("OPTIONS") or {}
    found = (options.get(key) for key in ("database", "db", "dbname"))
    return str(next(filter(None, found), entry.get("NAME") or ""))


def _guard_statements(database: str, home: str, denied: Callable[[str], None]) -> None:
    copies = copies_of(database)

    def guard(send: Send, sql: Any, context: Any) -> Any:
        if why := copies.leaves(_text(sql, context), home, context["connection"]):
            denied(f"a statement: {why}")
            raise SandboxViolation(f"This cannot be rehearsed: {why}.")
        return send()

    wrapper = statement_wrapper(guard)

    def prepare(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if wrapper not in connection.execute_wrappers:
            connection.execute_wrappers.insert(0, wrapper)

    connection_created.connect(
        prepare, weak=False, dispatch_uid="migration_route.execution.rehearsal"
    )


def _text(sql: Any, context: Any) -> str:
    """Return a statement as text, in whatever form the driver accepts it."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    if hasattr(sql, "as_string"):  # psycopg.sql
        return str(sql.as_string(context["connection"].connection))
    return str(sql)
