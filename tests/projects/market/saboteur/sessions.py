"""Reads and ends sessions of the project's database over a separate session."""

from __future__ import annotations

import json
import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent
OPTIONS = Path(os.environ.get("SABOTAGE_OPTIONS") or FOLDER / "options.json")
"""File with the connection options; a host that is to be cut off uses another host's."""


def is_postgres() -> bool:
    """Return whether the server is PostgreSQL rather than MariaDB."""
    return _settings()["ENGINE"].endswith("postgresql")


def connect():
    """Open a session outside of Django."""
    settings = _settings()
    words = {
        "host": settings["HOST"],
        "port": int(settings["PORT"]),
        "user": settings["USER"],
        "password": settings["PASSWORD"],
        "autocommit": True,
    }
    if is_postgres():
        import psycopg

        return psycopg.connect(dbname=settings["NAME"], **words)
    import pymysql

    return pymysql.connect(database=settings["NAME"], **words)


def kill_session(other, session: int) -> None:
    """Make the server end a session."""
    kill = "SELECT pg_terminate_backend(%s)" if is_postgres() else "KILL CONNECTION %s"
    other.cursor().execute(kill, [session])


def activity_of(other, session: int) -> str | None:
    """Return what a session waits for; an empty string for nothing, None when it has
    ended."""
    if is_postgres():
        look = "SELECT coalesce(wait_event_type, '') FROM pg_stat_activity WHERE pid = %s"
    else:
        look = (
            "SELECT coalesce(state, '') FROM information_schema.processlist WHERE id = %s"
        )
    cursor = other.cursor()
    cursor.execute(look, [session])
    row = cursor.fetchone()
    return row and row[0]


def _settings() -> dict:
    return json.loads(OPTIONS.read_text())["databases"]["default"]
