"""The MySQL and MariaDB implementation of `Vendor`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import HealthSettings, HealthSignal, Impact
from migration_route.vendors.base import (
    DatabaseIdentity,
    LockSlot,
    Sessions,
    TargetLock,
    Vendor,
)
from migration_route.vendors.base_forecast import Forecaster
from migration_route.vendors.mysql import health
from migration_route.vendors.mysql.catalog import MySQLCatalog, identity_of_session
from migration_route.vendors.mysql.forecast import MySQLForecaster
from migration_route.vendors.mysql.locks import (
    MySQLContention,
    MySQLLock,
    MySQLSessions,
    lock_ends_with_connection,
)

_CONNECT_TIMEOUT = 5
_WEEK = 7 * 24 * 3600


class MySQL(Vendor):
    name = "mysql"
    contention = MySQLContention()
    catalog = MySQLCatalog()

    def identity(self, session: Any) -> DatabaseIdentity:
        return identity_of_session(session)

    def own_settings(
        self,
        settings: dict[str, Any],
        *,
        patience: float,
        answer_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Fail soon if the server cannot be reached."""
        del patience
        options = {**settings["OPTIONS"]}
        if answer_timeout is not None:
            seconds = max(round(answer_timeout), 1)
            options = {"read_timeout": seconds, "write_timeout": seconds, **options}
        if "read_default_file" not in options:
            options.setdefault("connect_timeout", _CONNECT_TIMEOUT)
        return {**settings, "OPTIONS": options}

    def limit_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Set both limits for this session, which only this package uses. MySQL has no
        limit for an idle transaction, and ends the idle session instead."""
        idle = "wait_timeout = 60"
        if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            idle = "idle_transaction_timeout = 5"
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = 10, SESSION {idle}")

    @contextmanager
    def limit_statements(
        self, connection: BaseDatabaseWrapper, seconds: float
    ) -> Iterator[None]:
        self.contention.limit(connection, seconds)
        yield

    def is_direct(self, first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
        """Check for a lock that outlives its connection, as it does in a pool below Django.
        The proxies of MySQL are trusted: a client that takes GET_LOCK keeps its session."""
        return lock_ends_with_connection(first, second)

    def health(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> tuple[HealthSignal, ...]:
        return health.health(connection, touched, settings)

    def health_without_connection(self, error: Exception) -> HealthSignal | None:
        return health.without_connection(error)

    def forecaster(self, connection: BaseDatabaseWrapper) -> Forecaster:
        return MySQLForecaster(connection)

    def lock(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> TargetLock:
        return MySQLLock(connection, slot)

    def sessions(self, connection: BaseDatabaseWrapper) -> Sessions:
        return MySQLSessions(connection)

    def prepare_worker_session(
        self, connection: BaseDatabaseWrapper, run: str, *, lock_timeout: float
    ) -> None:
        """Keep the session while a migration computes without queries, and limit its waits
        for locks."""
        del run
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION wait_timeout = %s", [_WEEK])
        self.contention.limit(connection, lock_timeout)


VENDOR = MySQL()
