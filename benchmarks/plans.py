"""How soon can a long plan be read, and how soon is all of it told?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks import places

_LONG, _TOLD = 1000, 50
_CALLS = 5
_TABLE = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "{after}")]
    operations = [
        migrations.CreateModel("Thing{number}", [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=20, db_index=True)),
            ("item", models.ForeignKey("shop.Item", models.CASCADE)),
        ]),
        migrations.AddField("Thing{number}", "size", models.IntegerField(default=1)),
    ]
"""


def lines() -> Iterator[str]:
    """Measure, line by line, over HTTP; medians of warm calls."""
    yield f"{'':<44} {'migrate --plan':>14} {'the route':>10} {'ratio':>8}"
    for vendor in places.vendors("sqlite", "postgres"):
        with places.place(vendor, files=_chain(_LONG)) as here:
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
        with places.place(vendor, files=_chain(_TOLD)) as here:
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


def _chain(count: int) -> dict[str, str]:
    files, after = {}, "0001_initial"
    for number in range(2, count + 2):
        name = f"{number:04}_thing"
        files[name] = _TABLE.format(after=after, number=number)
        after = name
    return files
