"""The file of an SQLite database, and its identity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.base_identity import DatabaseIdentity

_IN_MEMORY = {"", ":memory:"}


def name_of(connection: BaseDatabaseWrapper) -> str:
    """Return what the backend gives to the driver: OPTIONS overrule NAME there."""
    # A copy is asked: the parameters are noted in the wrapper when they are made.
    return str(connection.copy().get_connection_params()["database"])


def file_of(connection: BaseDatabaseWrapper) -> Path:
    """Return the file that a connection leads to."""
    return path_of(name_of(connection))


def file_of_settings(settings: Mapping[str, Any]) -> Path:
    """Return the file that an entry of DATABASES leads to."""
    name = (settings.get("OPTIONS") or {}).get("database") or settings["NAME"]
    return path_of(str(name))


def path_of(name: str) -> Path:
    """Return the real path of a file by a plain name or a file: URI (sqlite.org, URI)."""
    if name.startswith("file:"):
        name = name.removeprefix("file:").partition("#")[0].partition("?")[0]
        if name.startswith("//"):
            name = f"/{name.removeprefix('//').partition('/')[2]}"
        name = unquote(name)
    # Two names of one file must mean one lock.
    return Path(name).resolve()


def is_in_memory(name: str) -> bool:
    """Tell whether a name means a database that no other process can open."""
    if not name.startswith("file:"):
        return name in _IN_MEMORY
    place, _, query = name.removeprefix("file:").partition("#")[0].partition("?")
    return unquote(place) in _IN_MEMORY or "mode=memory" in query.split("&")


def identity_of_session(session: Any) -> DatabaseIdentity:
    """Return which file a session has opened: hard links and symbolic ones are one file."""
    path = opened_file(session)
    if path is None or not path.exists():
        return DatabaseIdentity(server="", name="")
    return DatabaseIdentity(server="files", name=number_of(path), label=str(path))


def opened_file(session: Any) -> Path | None:
    """Return the file of a session; None for a database in memory."""
    rows = session.execute("PRAGMA database_list").fetchall()
    name = next((str(row[2] or "") for row in rows if row[1] == "main"), "")
    return Path(name) if name else None


def attached_files(session: Any) -> list[str]:
    """Return the files that a session has attached beside its own."""
    rows = session.execute("PRAGMA database_list").fetchall()
    return [str(row[2]) for row in rows if row[1] not in {"main", "temp"} and row[2]]


def number_of(path: Path) -> str:
    """Return the name by which `identity_of_session` knows a file."""
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}"
