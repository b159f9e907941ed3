"""Is there room on the disk of PostgreSQL? Only a server on this host can be asked.

SQL does not tell how full a disk is. A data directory on this host is looked at when it
is proved to be that of the server: its `postmaster.pid` says when the server started.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.health import (
    HealthSettings,
    Signal,
    SignalName,
    Touched,
    normal,
    stop,
    unknown,
)

_NAME = SignalName.DISK
_SLACK = 5  # seconds between the file and what the server says of its start
_START_LINE = 2  # of postmaster.pid (src/include/utils/pidfile.h)
_SIZES = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c WHERE c.relname = ANY(%s) AND c.relkind IN ('r', 'm', 'p')
AND pg_table_is_visible(c.oid)
"""
_WHERE = """
SELECT setting, extract(epoch FROM pg_postmaster_start_time())::bigint
FROM pg_settings WHERE name = 'data_directory'
"""


def disk(
    connection: BaseDatabaseWrapper, touched: Touched, settings: HealthSettings
) -> Signal:
    """Compare what is free with the size of the tables that are rewritten; where that is
    not foretold, with all that are touched, and what would not fit is unknown."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZES, [sorted(touched.tables & _rewritten(touched))])
        (size,) = cursor.fetchone()
        cursor.execute(_WHERE)
        found = cursor.fetchone()
    if touched.rewritten is not None and not touched.rewritten:
        return normal(_NAME, "No table is rewritten.")
    if found is None:
        return unknown(
            _NAME, "This role may not see where the data is: pg_read_all_settings shows it."
        )
    folder, why_not = _own_folder(found[0], found[1])
    if folder is None:
        return unknown(_NAME, why_not, needed=round(size * settings.disk))
    free, needed = _free(folder), round(size * settings.disk)
    facts = {"free": free, "tables": size, "needed": needed}
    if free >= needed:
        return normal(
            _NAME, f"{_read(free)} are free; {_read(needed)} may be needed.", **facts
        )
    if touched.rewritten is None:
        return unknown(
            _NAME,
            f"{_read(free)} are free: too little if all touched tables are rewritten, and "
            "which are is not foretold.",
            **facts,
        )
    return stop(
        _NAME,
        f"{_read(free)} are free, and rewriting takes {_read(needed)}.",
        **facts,
    )


def _rewritten(touched: Touched) -> frozenset[str]:
    return touched.tables if touched.rewritten is None else touched.rewritten


def _own_folder(name: str, started: int) -> tuple[Path | None, str]:
    """Return the server's folder if it is on this host and may be looked at, else why
    not."""
    folder = Path(name)
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
        start = int(lines[_START_LINE])
    except FileNotFoundError:
        return None, "The server's disk is not on this host."
    except (OSError, ValueError, IndexError):
        return None, "The server's data directory may not be read by this process."
    if abs(start - started) > _SLACK:
        return None, "The server's disk is not on this host."
    return folder, ""


def _free(folder: Path) -> int:
    """Return the bytes that are free for others than root."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _read(size: int) -> str:
    return f"{size / 1024**2:,.0f} MB"
