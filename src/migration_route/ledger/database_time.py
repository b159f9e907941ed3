"""The clock of the ledger's database, which every host that writes to it shares."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.models import CharField, Func

from migration_route.core import clock

_POSTGRESQL = (
    "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
)
# Per cent signs are doubled: the statement always has parameters.
_MYSQL = "DATE_FORMAT(UTC_TIMESTAMP(6), '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ')"


class DatabaseNow(Func):
    """The time of the database, in the format of `clock.format_time`.

    SQLite runs in this process and uses the clock of its host.
    """

    output_field = CharField()

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        del compiler
        if connection.vendor == "postgresql":
            return _POSTGRESQL, []
        if connection.vendor == "mysql":
            return _MYSQL, []
        return "%s", [clock.host_now()]


def read_time(alias: str) -> str:
    """Return the time of the database, and adjust `core.clock` to it.

    Raises `django.db.Error`.
    """
    connection = connections[alias]
    sql, parameters = DatabaseNow().as_sql(None, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", parameters)
        (now,) = cursor.fetchone()
    clock.synchronize(str(now))
    return str(now)
