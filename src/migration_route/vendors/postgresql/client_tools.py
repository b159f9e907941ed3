"""The way of pg_dump and psql to a database: the one that a connection has taken.

libpq has resolved service files, the environment and OPTIONS for that connection, so its
own answer is used instead of the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

# Known to every libpq since PostgreSQL 13: the one of the programs may be older than the
# one of the driver.
_KEPT = frozenset(
    {
        "user", "hostaddr", "passfile", "connect_timeout", "options", "keepalives",
        "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        "channel_binding", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl",
        "ssl_min_protocol_version", "ssl_max_protocol_version", "requirepeer",
        "krbsrvname", "gsslib", "gssencmode",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How programs come to a database, and as whom."""

    arguments: tuple[str, ...]
    environment: dict[str, str]  # holds the password
    role: str  # taken after the login; "" where that is the user itself

    @property
    def dump_arguments(self) -> tuple[str, ...]:
        """Return the arguments of pg_dump."""
        return (*((f"--role={self.role}",) if self.role else ()), *self.arguments)


def way_of(connection: BaseDatabaseWrapper, *, database: str = "") -> Way:
    """Return the way to the database that an open connection stands in, or to another
    one of its server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), session_user, current_user")
        current, login, role = cursor.fetchone()
    info = connection.connection.info
    known = getattr(info, "dsn_parameters", None) or info.get_parameters()
    words = {key: str(value) for key, value in known.items() if key in _KEPT and value}
    if "," in words.get("hostaddr", ""):
        del words["hostaddr"]  # of several servers; the host is the one that answered
    words |= {"host": info.host or "", "port": str(info.port or "")}
    words["dbname"] = database or current
    return Way(
        arguments=(f"--dbname={_conninfo(words)}",),
        environment={"PGPASSWORD": info.password} if info.password else {},
        role="" if role == login else role,
    )


def head_of(way: Way, database: str) -> bytes:
    """Return what psql executes first: it stops at anything but that database."""
    literal = "'" + database.replace("'", "''") + "'"
    lines = [
        "DO $route$ BEGIN IF pg_catalog.current_database() <> "
        f"{literal} THEN RAISE EXCEPTION 'this is the database %, not the copy', "
        "pg_catalog.current_database(); END IF; END $route$;"
    ]
    if way.role:
        role = way.role.replace('"', '""')
        lines.append(f'SET ROLE "{role}";')
    return "".join(f"{line}\n" for line in lines).encode()


def _conninfo(words: dict[str, Any]) -> str:
    """Return a connection string (libpq, 34.1.1.1)."""
    parts = []
    for key, value in sorted(words.items()):
        if value:
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            parts.append(f"{key}='{escaped}'")
    return " ".join(parts)
