"""The identity of a PostgreSQL database."""

from __future__ import annotations

from typing import Any

from migration_route.vendors.base_identity import DatabaseIdentity

# Both are for everybody to ask. Clones of a cluster share its system identifier, and the
# address of a server depends on the way to it: its start, to the microsecond, does neither.
_IDENTITY = """
SELECT pg_catalog.current_database() AS name,
CAST(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) AS text) AS server
"""


def identity_of_session(session: Any) -> DatabaseIdentity:
    """Return which database a session of psycopg or psycopg2 stands in."""
    with session.cursor() as cursor:
        cursor.execute(_IDENTITY)
        row = cursor.fetchone()
    name, server = row.values() if isinstance(row, dict) else row
    return DatabaseIdentity(server=str(server or ""), name=str(name or ""), label=str(name))
