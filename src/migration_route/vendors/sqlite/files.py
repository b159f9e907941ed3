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
    """Return the name that the backend passes to the driver; OPTIONS override NAME."""
    # Of a copy: the wrapper stores the parameters when it makes them.
    return str(connection.copy().get_connection_params()["database"])


def file_of(connection: BaseDatabaseWrapper) -> Path:
    return path_of(name_of(connection))


def file_of_settings(settings: Mapping[str, Any]) -> Path:
    """Return the file of an entry of DATABASES."""
    name = (settings.get("OPTIONS") or {}).get("database") or settings["NAME"]
    return path_of(str(name))


def path_of(name: str) -> Path:
    """Return the real path of a file by a plain name or a file: URI (sqlite.org, URI)."""
    if name.startswith("file:"):
        name = name.removeprefix("file:").partition("#")[0].partition("?")[0]
        if name.startswith("//"):
            name = f"/{name.removeprefix('//').partition('/')[2]}"
        name = unquote(name)
    # Two names of one file must share one lock.
    return Path(name).resolve()


def is_in_memory(name: str) -> bool:
    """Return whether a name means a database that no other process can open."""
    if not name.startswith("file:"):
        return name in _IN_MEMORY
    path, _, query = name.removeprefix("file:").partition("#")[0].partition("?")
    return unquote(path) in _IN_MEMORY or "mode=memory" in query.split("&")


def identity_of_session(session: Any) -> DatabaseIdentity:
    """Return the identity of a session's file: hard and symbolic links are one file."""
    path = opened_file(session)
    if path is None or not path.exists():
        return DatabaseIdentity(server="", name="")
    return DatabaseIdentity(server="files", name=device_and_inode(path), label=str(path))


def opened_file(session: Any) -> Path | None:
    """Return the file of a session; None for a database in memory."""
    rows = session.execute("PRAGMA database_list").fetchall()
    name = next((str(row[2] or "") for row in rows if row[1] == "main"), "")
    return Path(name) if name else None


def attached_files(session: Any) -> list[str]:
    """Return the files that a session has attached in addition to its own."""
    rows = session.execute("PRAGMA database_list").fetchall()
    return [str(row[2]) for row in rows if row[1] not in {"main", "temp"} and row[2]]


def device_and_inode(path: Path) -> str:
    """Return the name of a file in `identity_of_session`."""
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"
