"""The identity of a PostgreSQL database."""

from __future__ import annotations

from typing import Any

from migration_route.vendors.base_identity import DatabaseIdentity

# Every role may query both. Clones of a cluster share its system identifier, and a server's
# address depends on the connection; its start time, to the microsecond, does neither.
_IDENTITY = """
SELECT pg_catalog.current_database() AS name,
CAST(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) AS text) AS server
"""


def identity_of_session(session: Any) -> DatabaseIdentity:
    """Return the identity of the database of a psycopg or psycopg2 session."""
    with session.cursor() as cursor:
        cursor.execute(_IDENTITY)
        row = cursor.fetchone()
    name, server = row.values() if isinstance(row, dict) else row
    return DatabaseIdentity(server=str(server or ""), name=str(name or ""), label=str(name))
