"""Measures warm answers of a server while nothing is pending: with ten times as many
applied migrations, and with eight databases instead of one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks import places

_FEW, _MANY = 1_000, 10_000
_DATABASES = 8
_CALLS = 40
_ANSWERS = ("status", "ready", "plan")
_EMPTY = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "{after}")]
    operations = []
"""
_RECORD = """
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils.timezone import now
for alias in connections:
    recorder = MigrationRecorder(connections[alias])
    recorder.migration_qs.bulk_create(
        [
            recorder.Migration(app="shop", name=f"{{n:05}}_nothing", applied=now())
            for n in range(2, {count} + 1)
        ],
        batch_size=400,
    )
"""


def lines() -> Iterator[str]:
    """Yield the lines of the table: medians of warm calls over HTTP, in milliseconds."""
    yield (
        f"{'':<24} {f'{_FEW} applied':>14} {f'{_MANY} applied':>20} "
        f"{f'{_FEW} in {_DATABASES} databases':>30}"
    )
    aliases = ("default", *(f"more_{number}" for number in range(1, _DATABASES)))
    for vendor in places.vendors("sqlite", "postgres", "mariadb"):
        few = _latencies(vendor, _FEW)
        many = _latencies(vendor, _MANY)
        wide = _latencies(vendor, _FEW, aliases)
        for call in _ANSWERS:
            yield (
                f"{f'{call}, {vendor}':<24} {few[call]:11.1f} ms "
                f"{many[call]:9.1f} ms {many[call] / few[call]:5.2f} x "
                f"{wide[call]:19.1f} ms {wide[call] / few[call]:5.2f} x"
            )


def _latencies(
    vendor: str, count: int, aliases: tuple[str, ...] = ("default",)
) -> dict[str, float]:
    with places.place(vendor, files=_chain(count), aliases=aliases) as here:
        for alias in aliases:
            first = ("migrate", "shop", "0001_initial", "--database", alias)
            here.project.manage(*first, timeout=places.LONG)
        here.project.python(_RECORD.format(count=count))
        for alias in aliases:
            here.project.manage("migrate", "--database", alias, timeout=places.LONG)
        found = {}
        for call in _ANSWERS:
            here.client.get(call)
            found[call] = 1000 * median(
                places.seconds(partial(here.client.get, call)) for _ in range(_CALLS)
            )
        databases = here.client.get("status")["databases"]
        if any(each["pending"] or each["applied"] < count for each in databases):
            raise RuntimeError(databases)
    return found


def _chain(count: int) -> dict[str, str]:
    """Return a chain of migrations that change nothing."""
    files, after = {}, "0001_initial"
    for number in range(2, count + 1):
        name = f"{number:05}_nothing"
        files[name] = _EMPTY.format(after=after)
        after = name
    return files
