"""Measures how `status` and `ready` respond as more migrations are applied."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks import places

_FEW, _MANY = 10, 1000
_CALLS = 60
_EMPTY = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "{after}")]
    operations = []
"""


def lines() -> Iterator[str]:
    """Yield the lines of the table: medians of warm calls over HTTP, in milliseconds."""
    yield f"{'':<44} {_FEW:>7} applied {_MANY:>5} applied {'ratio':>8}"
    for vendor in places.vendors("sqlite", "postgres"):
        few, many = _latencies(vendor, _FEW), _latencies(vendor, _MANY)
        for call in ("status", "ready"):
            yield (
                f"{f'{call}, {vendor}':<44} {few[call]:12.1f} ms {many[call]:10.1f} ms "
                f"{many[call] / few[call]:7.2f} x"
            )


def _latencies(vendor: str, count: int) -> dict[str, float]:
    with places.place(vendor, files=_chain(count)) as here:
        here.project.manage("migrate", "--fake", "shop", timeout=places.LONG)
        here.project.manage("migrate", timeout=places.LONG)
        found = {}
        for call in ("status", "ready"):
            here.client.get(call)
            found[call] = 1000 * median(
                places.seconds(partial(here.client.get, call)) for _ in range(_CALLS)
            )
    return found


def _chain(count: int) -> dict[str, str]:
    """Return a chain of migrations that change nothing."""
    files, after = {}, "0001_initial"
    for number in range(2, count + 1):
        name = f"{number:04}_nothing"
        files[name] = _EMPTY.format(after=after)
        after = name
    return files
