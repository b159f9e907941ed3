"""MySQL and MariaDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import HealthSettings, HealthSignal, Impact
from migration_route.vendors.base import (
    NONE,
    CatalogProblems,
    Forecaster,
    LockSlot,
    Sessions,
    TargetLock,
)
from migration_route.vendors.base_identity import DatabaseIdentity
from migration_route.vendors.mysql import health
from migration_route.vendors.mysql.catalog import MySQLCatalog
from migration_route.vendors.mysql.forecast import MySQLForecaster
from migration_route.vendors.mysql.identity import identity_of_session
from migration_route.vendors.mysql.locks import (
    MySQLContention,
    MySQLLock,
    MySQLSessions,
    lock_ends_with_connection,
)

_CONNECT_TIMEOUT = 5
_WEEK = 7 * 24 * 3600


class MySQL:
    """What is particular about MySQL and MariaDB."""

    name = "mysql"
    lock_is_of_session = True
    contention = MySQLContention()
    catalog = MySQLCatalog()

    def identity(self, session: Any) -> DatabaseIdentity:
        """Ask for the database, and for what tells its server from others."""
        return identity_of_session(session)

    def own_settings(
        self,
        settings: dict[str, Any],
        *,
        patience: float,
        answer_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Answer soon when the server cannot be reached."""
        del patience
        options = {**settings["OPTIONS"]}
        if answer_timeout is not None:
            seconds = max(round(answer_timeout), 1)
            options = {"read_timeout": seconds, "write_timeout": seconds, **options}
        if "read_default_file" not in options:
            options.setdefault("connect_timeout", _CONNECT_TIMEOUT)
        return {**settings, "OPTIONS": options}

    def limit_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Set both limits for this session: it belongs to the route. MySQL has no limit
        for an idle transaction, and ends the idle session instead."""
        idle = "wait_timeout = 60"
        if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            idle = "idle_transaction_timeout = 5"
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = 10, SESSION {idle}")

    def is_direct(self, first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
        """Look for a lock that outlives its connection, as it does in a pool below Django;
        trust the proxies of MySQL: whoever takes GET_LOCK keeps the session."""
        return lock_ends_with_connection(first, second)

    def troubles(self, connection: BaseDatabaseWrapper) -> CatalogProblems:
        """Find none: an index is there or not, and ids are counted by the table itself."""
        del connection
        return NONE

    def health(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> tuple[HealthSignal, ...]:
        """Look at it."""
        return health.health(connection, touched, settings)

    def health_without_connection(self, error: Exception) -> HealthSignal | None:
        """Tell a server that is full."""
        return health.without_connection(error)

    def forecaster(self, connection: BaseDatabaseWrapper) -> Forecaster:
        """Read statements by the catalog of the server."""
        return MySQLForecaster(connection)

    def index_in_the_way(self, connection: BaseDatabaseWrapper, sql: str) -> str | None:
        """Find none: no index is half done."""
        del connection, sql
        return None

    def lock(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> TargetLock:
        """Return the named lock of the connection's database."""
        return MySQLLock(connection, slot)

    def sessions(self, connection: BaseDatabaseWrapper) -> Sessions:
        """Return what the connection can see of other sessions."""
        return MySQLSessions(connection)

    def interrupt(self, connection: BaseDatabaseWrapper) -> None:
        """Do nothing: the server is told by another session."""
        del connection

    def worker_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Change nothing."""
        return settings

    def prepare_worker_session(
        self, connection: BaseDatabaseWrapper, run: str, *, lock_timeout: float
    ) -> None:
        """Keep the session while a migration computes without asking the server, and
        let it wait for no lock for long."""
        del run
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION wait_timeout = %s", [_WEEK])
        self.contention.limit(connection, lock_timeout)

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Need none: writers do not wait for each other."""
        del connection
        return None

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell that every process can see a server."""
        del connection
        return False


VENDOR = MySQL()
