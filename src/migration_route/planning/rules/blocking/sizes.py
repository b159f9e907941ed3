"""How large is a table, for somebody who would have to wait for it?"""

from __future__ import annotations

from migration_route.forecast import TableSize
from migration_route.vocabulary import Severity

SMALL_ROWS = 10_000
SMALL_BYTES = 10_000_000
"""Up to here a scan or a rewrite is over before anybody notices: well under 0.1 s."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Sizes:
    """The sizes of the tables of a plan, by name."""

    def __init__(self, tables: tuple[TableSize, ...]) -> None:
        self._by_name = {found.table: found for found in tables}

    def severity(self, table: str) -> Severity:
        """Return how much it weighs to wait for this table: little for a small one."""
        found = self._by_name.get(table)
        if found is None or found.rows is None or found.rows > SMALL_ROWS:
            return Severity.WARNING
        is_small = found.bytes is None or found.bytes <= SMALL_BYTES
        return Severity.INFO if is_small else Severity.WARNING

    def in_words(self, table: str) -> str:
        """Return " (1,200 rows, 3 MB)", or nothing where the size is not known."""
        found = self._by_name.get(table)
        if found is None:
            return ""
        parts = [] if found.rows is None else [f"{found.rows:,} rows"]
        parts += [] if found.bytes is None else [_size(found.bytes)]
        return f" ({', '.join(parts)})" if parts else ""


def _size(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}"
