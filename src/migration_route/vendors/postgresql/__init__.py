"""The PostgreSQL implementation of `Vendor`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import HealthSettings, HealthSignal, Impact
from migration_route.vendors.base import (
    CatalogProblems,
    DatabaseIdentity,
    LockSlot,
    Sessions,
    TargetLock,
    Vendor,
)
from migration_route.vendors.base_forecast import Forecaster
from migration_route.vendors.postgresql import catalog as postgresql_catalog
from migration_route.vendors.postgresql import health
from migration_route.vendors.postgresql.catalog import PostgreSQLCatalog
from migration_route.vendors.postgresql.contention import PostgreSQLContention
from migration_route.vendors.postgresql.forecast import PostgreSQLForecaster
from migration_route.vendors.postgresql.locks import (
    PostgreSQLLock,
    PostgreSQLSessions,
    ends_with_connection,
    have_own_sessions,
)

# Every role may query both. Clones of a cluster share its system identifier, and a server's
# address depends on the connection; its start time, to the microsecond, does neither.
_IDENTITY = """
SELECT pg_catalog.current_database() AS name,
CAST(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) AS text) AS server
"""
_CONNECT_TIMEOUT = 5
# A firewall must not drop a session that waits for minutes, and the client must not wait
# for a server that is gone (libpq, 34.1.2).
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_SET = "SELECT set_config(%s, %s, false)"
_LIMIT_STATEMENTS = "SELECT set_config('statement_timeout', %s, true)"
_LIMIT_TRANSACTION = (
    "SELECT set_config('lock_timeout', '10s', true), "
    "set_config('idle_in_transaction_session_timeout', '5s', true)"
)


class PostgreSQL(Vendor):
    name = "postgresql"
    contention = PostgreSQLContention()
    catalog = PostgreSQLCatalog()

    def identity(self, session: Any) -> DatabaseIdentity:
        """Query a psycopg or psycopg2 session for the name of the database, and the start
        time of its server."""
        with session.cursor() as cursor:
            cursor.execute(_IDENTITY)
            row = cursor.fetchone()
        name, server = row.values() if isinstance(row, dict) else row
        return DatabaseIdentity(
            server=str(server or ""), name=str(name or ""), label=str(name)
        )

    def own_settings(
        self,
        settings: dict[str, Any],
        *,
        patience: float,
        answer_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Bypass the pool: it reuses sessions together with their changed settings."""
        del patience
        options = {"connect_timeout": _CONNECT_TIMEOUT, **_alone(settings)}
        if answer_timeout is not None:
            probes = _probes_within(answer_timeout)
            options |= {
                name: settings["OPTIONS"].get(name, value) for name, value in probes.items()
            }
        return {**settings, "OPTIONS": options}

    def limit_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Set both limits for this transaction only, as is necessary behind a pooler."""
        with connection.cursor() as cursor:
            cursor.execute(_LIMIT_TRANSACTION)

    @contextmanager
    def limit_statements(
        self, connection: BaseDatabaseWrapper, seconds: float
    ) -> Iterator[None]:
        """Set the limit for a transaction around the block, as is necessary behind a
        pooler."""
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute(_LIMIT_STATEMENTS, [f"{max(round(seconds * 1000), 1)}ms"])
        yield
        connection.rollback()

    def is_direct(self, first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
        """Check for a session that outlives its connection or serves both."""
        return ends_with_connection(first, second) and have_own_sessions(first, second)

    def worker_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Bypass the pool too, and keep the connection alive."""
        return {**settings, "OPTIONS": _alone(settings)}

    def troubles(self, connection: BaseDatabaseWrapper) -> CatalogProblems:
        return postgresql_catalog.catalog_problems(connection)

    def health(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> tuple[HealthSignal, ...]:
        return health.health(connection, touched, settings)

    def health_without_connection(self, error: Exception) -> HealthSignal | None:
        return health.without_connection(error)

    def forecaster(self, connection: BaseDatabaseWrapper) -> Forecaster:
        return PostgreSQLForecaster(connection)

    def colliding_index(self, connection: BaseDatabaseWrapper, sql: str) -> str | None:
        return postgresql_catalog.colliding_index(connection, sql)

    def lock(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> TargetLock:
        return PostgreSQLLock(connection, slot)

    def sessions(self, connection: BaseDatabaseWrapper) -> Sessions:
        return PostgreSQLSessions(connection)

    def prepare_worker_session(
        self, connection: BaseDatabaseWrapper, run: str, *, lock_timeout: float
    ) -> None:
        """Name the session, lift the time limits of the web role, and let the server detect
        within half a second that the worker is dead (PostgreSQL 14)."""
        with connection.cursor() as cursor:
            for setting, value in (
                ("application_name", f"migration-route:{run}"),
                ("statement_timeout", "0"),
                ("idle_in_transaction_session_timeout", "0"),
                ("lock_timeout", f"{max(round(lock_timeout * 1000), 1)}ms"),
            ):
                cursor.execute(_SET, [setting, value])
            for setting, value in (
                ("client_connection_check_interval", "500ms"),  # not on every platform
                ("idle_session_timeout", "0"),  # a run may be paused for long
            ):
                with suppress(DatabaseError):  # both are new in PostgreSQL 14
                    cursor.execute(_SET, [setting, value])


def _probes_within(seconds: float) -> dict[str, Any]:
    """Return the options by which the kernel detects within this time that a server is gone
    (libpq, 34.1.2)."""
    return {
        "keepalives_idle": max(round(seconds / 3), 1),
        "keepalives_interval": max(round(seconds / 5), 1),
        "keepalives_count": 3,
        "tcp_user_timeout": round(seconds * 1000),
    }


def _alone(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a connection that bypasses pools and is kept alive."""
    options = {**_KEEPALIVES, **settings["OPTIONS"]}
    options.pop("pool", None)
    return options


VENDOR = PostgreSQL()
