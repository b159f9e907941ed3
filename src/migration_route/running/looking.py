"""How is a database looked at, before anything begins in it?"""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.connecting import new_connection
from migration_route.deciding.health import freeze_signal
from migration_route.health import Signal, SignalName, Touched, unknown
from migration_route.vendors import vendor_of

_PATIENCE = 1.0  # seconds for a busy SQLite file to be opened


class Looking:
    """Looks at one database, over a connection of its own that it keeps."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._connection: BaseDatabaseWrapper | None = None

    def look(self, touched: Touched) -> tuple[Signal, ...]:
        """Return the signals for somebody who wants to change what is `touched`.

        Raises nothing: what cannot be read is unknown. Without HEALTH, freezes alone.
        """
        settings = route_settings()
        freeze = freeze_signal(settings.freezes, datetime.now(UTC))
        if settings.health is None:
            return (freeze,)
        vendor = vendor_of(self._database)
        try:
            connection = self._open()
            return (freeze, *vendor.health(connection, touched, settings.health))
        except (DatabaseFailure, OSError) as error:
            self.close()
            found = vendor.health_without_connection(error)
            return (freeze, found or unknown(SignalName.CONNECTIONS, "No connection."))

    def _open(self) -> BaseDatabaseWrapper:
        """Return the connection; one that has died meanwhile is made anew."""
        if self._connection is None:
            self._connection = new_connection(self._database, patience=_PATIENCE)
        if self._connection.connection is not None and not self._connection.is_usable():
            self._connection.close()
        self._connection.ensure_connection()
        return self._connection

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
