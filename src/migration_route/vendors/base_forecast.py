"""The interface for forecasts, and a forecast while it is built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from migration_route.core.values import Blocked, Forecast, TableLock, TableSize

_ALGORITHMS = ("", "instant", "inplace", "rebuild", "copy")  # the slowest last


class Forecaster(Protocol):
    """Forecasts the statements of one plan in order.

    It tracks what earlier statements create and rename.
    """

    def forecast_statement(self, sql: str) -> Forecast:
        """Forecast what a statement does to the tables that exist before the plan.

        Uses the current catalog and executes nothing. Raises `django.db.DatabaseError`.
        """

    def note_unknown_statements(self) -> None:
        """Record that an operation with unknown statements comes here; does nothing where
        forecasts do not depend on rows."""
        return

    def sizes(self, tables: Collection[str]) -> tuple[TableSize, ...]:
        """Return the sizes of tables. Raises `django.db.DatabaseError`."""


class BaseForecastBuilder:
    """The locks, rewrites and scans of a text, on tables from before the plan.

    "" and None stand for a table that no session waits for.
    """

    def __init__(
        self,
        *,
        strongest: Callable[[str, str], str],
        blocked_by: Callable[[str], frozenset[Blocked]],
    ) -> None:
        self._strongest = strongest
        self._blocked_by = blocked_by
        self._modes: dict[str, str] = {}
        self._rewrites: dict[str, None] = {}
        self._scans: dict[str, None] = {}
        self._algorithm = ""
        self.is_understood = True

    def lock_names(self, tables: Iterable[str | None], mode: str) -> None:
        for table in sorted(filter(None, tables)):
            self._modes[table] = self._strongest(self._modes.get(table, mode), mode)

    def scan_names(self, tables: Iterable[str | None]) -> None:
        self._scans |= dict.fromkeys(sorted(filter(None, tables)))

    def rewrite_names(self, tables: Iterable[str | None]) -> None:
        """Add a rewrite of each table, with the scan that it needs."""
        names = list(tables)
        self.scan_names(names)
        self._rewrites |= dict.fromkeys(sorted(filter(None, names)))

    def raise_algorithm(self, algorithm: str, table: str | None) -> None:
        if table:
            self._algorithm = max(self._algorithm, algorithm, key=_ALGORITHMS.index)

    def add(self, other: BaseForecastBuilder) -> None:
        """Add the forecast of another statement of the same text."""
        for table, mode in other._modes.items():
            self.lock_names((table,), mode)
        self._rewrites |= other._rewrites
        self._scans |= other._scans

    def forecast(self) -> Forecast:
        return Forecast(
            locks=tuple(
                TableLock(table=table, mode=mode, blocks=self._blocked_by(mode))
                for table, mode in self._modes.items()
            ),
            rewrites=tuple(self._rewrites),
            scans=tuple(self._scans),
            algorithm=self._algorithm,
            is_understood=self.is_understood,
        )
