"""Where does a rehearsal's worker write? Into the copy, and nowhere else.

The project's routers and migrations ask for the alias that they know: so that alias
leads to the copy in this process, and every other one leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from migration_route.conf import route_settings
from migration_route.running.messages import Scratch
from migration_route.vendors import copies_of
from migration_route.vendors.sqlite import file_of

_NO_MAIL = "django.core.mail.backends.dummy.EmailBackend"


class OutsideOfTheCopy(DatabaseError):
    """A migration wanted to reach beyond the copy that it was rehearsed on."""


def scratch_settings(database: str, scratch: Scratch) -> dict[str, Any]:
    """Return the settings that lead to the copy."""
    if scratch.alias:
        return dict(connections.settings[scratch.alias])
    way = route_settings().database(database).direct or database
    return copies_of(database).settings(dict(connections.settings[way]), scratch.name)


@contextmanager
def led_to_copy(
    database: str, scratch: Scratch | None, denied: Callable[[str], None]
) -> Iterator[None]:
    """Let the alias lead to the copy, and nothing lead elsewhere, until this process
    ends. `denied` is told what a migration wanted beyond it."""
    if scratch is None:
        yield
        return
    home = connections.settings[database]
    copy = scratch_settings(database, scratch)
    others = [dict(entry) for entry in connections.settings.values()]
    others = [entry for entry in others if entry.get("NAME")]
    way = route_settings().database(database).direct or database
    same = {_place(home), _place(connections.settings[way])}
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]
    for alias, entry in [*connections.settings.items()]:
        if _place(entry) in same:
            _lead(alias, {**entry, **copy, "TEST": entry.get("TEST", {})})
    settings.EMAIL_BACKEND = _NO_MAIL  # a mail would reach people
    _deny_others(_place(copy), denied)
    _deny_drivers(database, {*map(_name, others)} - {_name(copy)}, denied)
    _guard_statements(database, str(home["NAME"]), denied)
    yield


def _lead(alias: str, entry: dict[str, Any]) -> None:
    connections.settings[alias] = entry
    settings.DATABASES[alias] = entry


def _place(entry: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return what tells one database from another, by the settings."""
    return (
        str(entry.get("ENGINE")),
        str(entry.get("HOST") or ""),
        str(entry.get("PORT") or ""),
        str(entry.get("NAME") or ""),
    )


def _deny_others(place: tuple[str, str, str, str], denied: Callable[[str], None]) -> None:
    connect = BaseDatabaseWrapper.connect

    def connect_to_copy(self: BaseDatabaseWrapper) -> None:
        if _place(self.settings_dict) != place:
            denied(f"the database {self.alias!r}")
            raise OutsideOfTheCopy(
                f"A rehearsal reaches its copy alone, not the database {self.alias!r}."
            )
        connect(self)

    BaseDatabaseWrapper.connect = connect_to_copy  # type: ignore[method-assign]


def _deny_drivers(database: str, homes: set[str], denied: Callable[[str], None]) -> None:
    """Let nobody connect past Django to what the settings call a database."""

    def look(name: str) -> None:
        if name in homes:
            denied(f"the database {Path(name).name!r}, past Django")
            raise OutsideOfTheCopy(
                f"A rehearsal reaches its copy alone, not {Path(name).name!r}."
            )

    copies_of(database).watch_drivers(look)


def _name(entry: dict[str, Any]) -> str:
    """Return the name of a database as drivers know it; of SQLite, the whole path."""
    is_file = "sqlite" in str(entry.get("ENGINE"))
    return str(file_of(entry)) if is_file else str(entry["NAME"])


def _guard_statements(database: str, home: str, denied: Callable[[str], None]) -> None:
    copies = copies_of(database)

    def guard(
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        if why := copies.leaves(str(sql), home):
            denied(f"a statement: {why}")
            raise OutsideOfTheCopy(f"This cannot be rehearsed: {why}.")
        return execute(sql, params, many, context)

    def prepare(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if guard not in connection.execute_wrappers:
            connection.execute_wrappers.insert(0, guard)

    connection_created.connect(
        prepare, weak=False, dispatch_uid="migration_route.rehearsal"
    )
