"""Measures a run against `manage.py migrate` of the same migrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

from benchmarks import places
from tests.harness.migrations import column
from tests.harness.project import Options
from tests.outcome import surroundings

_TURNS = 7
_LONG_TURNS = 2


def lines() -> Iterator[str]:
    """Yield the lines of the table."""
    heads = "".join(
        f"{head:>20}" for head in ("over HTTP", "by command", "plan by command")
    )
    yield f"{'':<42} {'migrate':>10}{heads}"
    for vendor in places.vendors("sqlite", "postgres"):
        yield _single(vendor)
    if find_spec("wagtail") is None:
        yield "Wagtail is not installed here: skipped."
        return
    for vendor in places.vendors("sqlite", "postgres"):
        yield _everything(vendor)
        yield _single(vendor, options=_wagtail(vendor), label="one pending, Wagtail")


def _single(
    vendor: str, *, options: Options | None = None, label: str = "one pending migration"
) -> str:
    files = {"0002_sku": column("sku")}
    with places.place(vendor, options=options, files=files) as here:
        here.project.manage("migrate", timeout=places.LONG)
        typed, routed, commanded, planned = [], [], [], []
        for _ in range(_TURNS):
            here.project.manage("migrate", "shop", "0001", timeout=places.LONG)
            typed.append(places.typed(here))
            here.project.manage("migrate", "shop", "0001", timeout=places.LONG)
            routed.append(places.routed(here))
            here.project.manage("migrate", "shop", "0001", timeout=places.LONG)
            planned.append(places.commanded(here, "plan"))
            commanded.append(places.commanded(here, "apply", "--yes"))
    return places.compared(f"{label}, {vendor}", typed, routed, commanded, planned)


def _everything(vendor: str) -> str:
    with places.place(vendor, options=_wagtail(vendor)) as here:
        typed, routed, commanded, planned = [], [], [], []
        for _ in range(_LONG_TURNS):
            places.empty(here.project.database)
            typed.append(places.typed(here))
            places.empty(here.project.database)
            routed.append(places.routed(here))
            places.empty(here.project.database)
            planned.append(places.commanded(here, "plan"))
            commanded.append(places.commanded(here, "apply", "--yes"))
            count = len(here.project.database.rows("SELECT 1 FROM django_migrations"))
    label = f"empty database, Wagtail ({count}), {vendor}"
    return places.compared(label, typed, routed, commanded, planned)


def _wagtail(vendor: str) -> Options:
    """Return Wagtail with all of its apps, and the shop beside it."""
    options = surroundings.wagtail(vendor)
    installed = ["shop", *options.settings["INSTALLED_APPS"]]
    return replace(options, settings={**options.settings, "INSTALLED_APPS": installed})
