"""How pg_dump and psql connect to a database: as an open connection does.

libpq has resolved service files, the environment and OPTIONS for that connection, so its
own answer is used instead of the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

# Known to every libpq since PostgreSQL 13: that of the programs may be older than that of
# the driver.
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
class ClientConnection:
    """How programs connect to a database, and as whom."""

    arguments: tuple[str, ...]
    environment: dict[str, str]  # contains the password
    role: str  # assumed after the login; "" if it is the login user

    @property
    def dump_arguments(self) -> tuple[str, ...]:
        return (*((f"--role={self.role}",) if self.role else ()), *self.arguments)


def client_connection(
    connection: BaseDatabaseWrapper, *, database: str = ""
) -> ClientConnection:
    """Return how to connect to the database of an open connection, or to another one of its
    server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), session_user, current_user")
        current, login, role = cursor.fetchone()
    info = connection.connection.info
    known = getattr(info, "dsn_parameters", None) or info.get_parameters()
    parameters = {key: str(value) for key, value in known.items() if key in _KEPT and value}
    if "," in parameters.get("hostaddr", ""):
        del parameters["hostaddr"]  # of several servers; `host` is the one that answered
    parameters |= {"host": info.host or "", "port": str(info.port or "")}
    parameters["dbname"] = database or current
    return ClientConnection(
        arguments=(f"--dbname={_conninfo(parameters)}",),
        environment={"PGPASSWORD": info.password} if info.password else {},
        role="" if role == login else role,
    )


def load_preamble(way: ClientConnection, database: str) -> bytes:
    """Return what psql executes first: it stops in any database but this one."""
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


def _conninfo(parameters: dict[str, Any]) -> str:
    """Return a connection string (libpq, 34.1.1.1)."""
    parts = []
    for key, value in sorted(parameters.items()):
        if value:
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            parts.append(f"{key}='{escaped}'")
    return " ".join(parts)
