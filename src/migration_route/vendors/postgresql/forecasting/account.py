"""What has been foretold of a statement so far?"""

from __future__ import annotations

from collections.abc import Iterable

from migration_route.forecast import Blocked, Forecast, TableLock
from migration_route.vendors.postgresql.forecasting.facts import Table
from migration_route.vendors.postgresql.wishes import (
    ACCESS_EXCLUSIVE,
    ACCESS_SHARE,
    ROW_EXCLUSIVE,
    SHARE_ROW,
    conflict,
    strongest,
)

_WHO = (
    (Blocked.READS, ACCESS_SHARE),
    (Blocked.WRITES, ROW_EXCLUSIVE),
    (Blocked.SCHEMA_CHANGES, ACCESS_EXCLUSIVE),
)


def blocked_by(mode: str) -> frozenset[Blocked]:
    """Return who waits while somebody holds this mode; most changes of the schema want
    the strongest one, so that they wait for each."""
    return frozenset(who for who, wanted in _WHO if conflict(wanted, mode))


class Account:
    """The locks, rewrites and scans of a statement, on tables from before the plan."""

    def __init__(self) -> None:
        self._modes: dict[str, str] = {}
        self._rewrites: dict[str, None] = {}
        self._scans: dict[str, None] = {}
        self.is_understood = True

    def lock(self, table: Table | None, mode: str) -> None:
        """Foretell a lock on a table and on what is part of it."""
        if table is not None:
            self.lock_names((table.name, *table.heirs), mode)

    def lock_names(self, tables: Iterable[str], mode: str) -> None:
        """Foretell a lock on tables by their names; "" is one that nobody waits for."""
        for table in sorted(filter(None, tables)):
            self._modes[table] = strongest(self._modes.get(table, mode), mode)

    def scan(self, table: Table | None) -> None:
        """Foretell that a table is read from end to end."""
        if table is not None:
            self.scan_names((table.name, *table.heirs))

    def scan_names(self, tables: Iterable[str]) -> None:
        """Foretell it of tables by their names."""
        self._scans |= dict.fromkeys(sorted(filter(None, tables)))

    def rewrite(self, table: Table | None) -> None:
        """Foretell that a table is written anew, and read for that."""
        if table is not None:
            self.scan(table)
            self._rewrites |= dict.fromkeys(
                sorted(filter(None, (table.name, *table.heirs)))
            )

    def worst(self, table: Table | None) -> None:
        """Foretell the worst of a table."""
        self.lock(table, ACCESS_EXCLUSIVE)
        self.rewrite(table)

    def refer(self, table: Table | None) -> None:
        """Foretell what a new foreign key takes of the table that it points to."""
        self.lock(table, SHARE_ROW)

    def add(self, other: Account) -> None:
        """Foretell all that was foretold of another statement of the same text."""
        for table, mode in other._modes.items():
            self.lock_names((table,), mode)
        self._rewrites |= other._rewrites
        self._scans |= other._scans

    def forecast(self) -> Forecast:
        """Return all that was foretold."""
        return Forecast(
            locks=tuple(
                TableLock(table=table, mode=mode, blocks=blocked_by(mode))
                for table, mode in self._modes.items()
            ),
            rewrites=tuple(self._rewrites),
            scans=tuple(self._scans),
            is_understood=self.is_understood,
        )
