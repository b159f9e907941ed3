"""Measures the response times of a long plan: its first piece and all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks import places
from tests.harness.migrations import chain_of_tables

_LONG, _TOLD = 1000, 50
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
        with places.place(vendor, files=chain_of_tables(_TOLD)) as here:
            here.project.manage("migrate", "shop", "0001", timeout=places.LONG)
            pieces = _pieces(here)
            label = f"{_TOLD} pending, all SQL and findings, {vendor}"
            yield (
                f"{label:<44} first piece after {pieces[0]:.2f} s, all {len(pieces)} "
                f"after {sum(pieces):.2f} s"
            )


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
