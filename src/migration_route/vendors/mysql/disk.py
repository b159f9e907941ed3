"""Where are the tables of MySQL or MariaDB, and how large? Only a server on this host is
known: by its host's name, and by the file in which it keeps its pid while it runs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.room import Unseen

_WHERE = "SELECT @@global.hostname, @@global.datadir, @@global.pid_file"
_SIZES = """
SELECT table_name, data_length + index_length FROM information_schema.tables
WHERE table_schema = database() AND table_type = 'BASE TABLE' AND table_name IN %s
"""


class MySQLRooms:
    """The place of one database."""

    keeps_old_rows = False  # each alteration commits

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def folder(self) -> Path:
        """Return the server's data directory. Raises `Unseen`."""
        with self._connection.cursor() as cursor:
            cursor.execute(_WHERE)
            host, data, pid_file = map(_text, cursor.fetchone())
        folder = Path(data)
        try:
            pid = int((folder / pid_file).read_text())
        except FileNotFoundError as error:
            raise Unseen("The server's disk is not on this host.") from error
        except (OSError, ValueError) as error:
            raise Unseen(
                "The server's pid file may not be read by this process."
            ) from error
        if host != socket.gethostname() or not _is_running(pid):
            raise Unseen("The server's disk is not on this host.")
        return folder

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables with their indexes, by the server's statistics."""
        del is_exact
        names = tuple(tables)
        if not names:
            return {}
        with self._connection.cursor() as cursor:
            cursor.execute(_SIZES, [names])
            return {"": sum(int(size or 0) for _, size in cursor.fetchall())}


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's, and it is there
    return True


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
