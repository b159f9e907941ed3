"""Measures the response times of a long plan: its first piece and all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks import places
from tests.harness.migrations import chain_of_tables, many_operations

_LONG, _TOLD = 1000, (50, 300)
_FEW, _MANY = 1000, 4000  # operations in one migration
_CALLS = 5


def lines() -> Iterator[str]:
    """Yield the lines of the table: medians of warm calls over HTTP."""
    yield f"{'':<44} {'migrate --plan':>14} {'the route':>10} {'ratio':>8}"
    for vendor in places.vendors("sqlite", "postgres"):
        with places.place(vendor, files=chain_of_tables(_LONG)) as here:
            typed = places.seconds(
                lambda: here.project.manage("migrate", "--plan", timeout=places.LONG)
            )
            first = places.seconds(lambda: _plain(here))
            warm = median(places.seconds(lambda: _plain(here)) for _ in range(_CALLS))
            for when, seconds in (("the first time", first), ("again", warm)):
                label = f"{_LONG} pending, no SQL, {when}, {vendor}"
                yield (
                    f"{label:<44} {typed:12.2f} s {seconds:8.2f} s {seconds / typed:7.2f} x"
                )
        for count in _TOLD:
            pieces = _pieces_of(vendor, chain_of_tables(count))
            label = f"{count} pending, all SQL and findings, {vendor}"
            yield (
                f"{label:<44} first piece after {pieces[0]:.2f} s, all {len(pieces)} "
                f"after {sum(pieces):.2f} s"
            )
        few, many = (
            sum(_pieces_of(vendor, many_operations(count))) for count in (_FEW, _MANY)
        )
        label = f"{_FEW} and {_MANY} operations in one, {vendor}"
        yield f"{label:<44} {few:12.2f} s {many:8.2f} s {many / few:7.2f} x"


def _pieces_of(vendor: str, files: dict[str, str]) -> list[float]:
    """Return the seconds that each piece of a plan of these migrations takes, in a project
    that has applied its first one."""
    with places.place(vendor, files=files) as here:
        here.project.manage("migrate", "shop", "0001", timeout=places.LONG)
        return _pieces(here)


def _plain(here: places.Place) -> Any:
    return here.client.get("plan", target="shop", details="none")


def _pieces(here: places.Place) -> list[float]:
    """Return the seconds that each piece of a plan takes."""
    found: list[float] = []
    after: int | None = 0
    while after is not None:
        start = time.perf_counter()
        after = here.client.get("plan", target="shop", details=after)["details_next"]
        found.append(time.perf_counter() - start)
    return found
