"""Measures how long other sessions wait while a table in use is altered.

Eight readers and two writers use a table of a million rows; a transaction holds it for ten
seconds, and meanwhile a column is added: by a dozen-line view, by `manage.py migrate`, and
by a run. The worst waits of each are measured side by side.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import places
from tests.harness.database import Database
from tests.harness.migrations import column
from tests.harness.project import Options

_ROWS = 1_000_000
_READERS, _WRITERS = 8, 2
_HELD = 10.0  # seconds
_PAUSE = 0.01  # seconds between two statements of one session
_FILL = {
    "postgres": "SELECT 'item ' || n FROM generate_series(1, {rows}) AS n",
    "mariadb": "SELECT concat('item ', seq) FROM seq_1_to_{rows}",
}
_NAIVE = '''"""The view that people write first."""

from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

from market.urls import urlpatterns as usual


def migrate(request):
    execute_from_command_line(["", "migrate"])
    return HttpResponse("done")


urlpatterns = [path("naive/", migrate), *usual]
'''


@dataclass(slots=True)
class _Waits:
    """The waits of the sessions that use the table, in seconds."""

    readers: list[float] = field(default_factory=list)
    writers: list[float] = field(default_factory=list)


def lines() -> Iterator[str]:
    """Yield the lines of the table."""
    for vendor in places.vendors("postgres", "mariadb"):
        yield (
            f"{f'{_HELD:.0f} s of a held table, {vendor}':<32} {'readers':>12} "
            f"{'writers':>12} {'statements':>12} {'altered after':>14}"
        )
        options = Options(settings={"ROOT_URLCONF": "market.naive"})
        files = {"0002_busy": column("busy")}
        texts = {"market/naive.py": _NAIVE}
        with places.place(vendor, options=options, files=files, texts=texts) as here:
            _fill(here)
            for way, alter in _ways(here).items():
                yield _measured(here, way, alter)


def _fill(here: places.Place) -> None:
    here.project.manage("migrate", timeout=places.LONG)
    here.project.manage("migrate", "shop", "0001_initial", timeout=places.LONG)
    here.project.database.execute(
        "INSERT INTO shop_item (name) " + _FILL[here.vendor].format(rows=_ROWS)
    )


def _ways(here: places.Place) -> dict[str, Callable[[], object]]:
    return {
        "a dozen-line view": lambda: here.client.http.get("/naive/").raise_for_status(),
        "manage.py migrate": lambda: places.typed(here),
        "a run": lambda: places.routed(here),
    }


def _measured(here: places.Place, way: str, alter: Callable[[], object]) -> str:
    here.project.manage("migrate", "shop", "0001_initial", timeout=places.LONG)
    with _busy(here.project.database) as waits:
        is_held = threading.Event()
        holder = threading.Thread(target=_hold, args=(here.project.database, is_held))
        holder.start()
        is_held.wait()
        taken = places.seconds(alter)
        holder.join()
    if "busy" not in here.project.database.columns("shop_item"):
        raise RuntimeError(f"{way} did not alter the table")
    count = len(waits.readers) + len(waits.writers)
    readers, writers = 1000 * max(waits.readers), 1000 * max(waits.writers)
    return f"{way:<32} {readers:9.0f} ms {writers:9.0f} ms {count:12d} {taken:12.1f} s"


def _hold(database: Database, is_held: threading.Event) -> None:
    """Read the table in a transaction, and keep the transaction open."""
    with database.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT name FROM shop_item WHERE id = 1")
        cursor.fetchall()
        is_held.set()
        time.sleep(_HELD)  # the reference for the measured waits
        cursor.execute("ROLLBACK")


@contextlib.contextmanager
def _busy(database: Database) -> Iterator[_Waits]:
    """Let readers and writers use the table within the block."""
    waits, ends = _Waits(), threading.Event()
    update = "UPDATE shop_item SET name = 'other' WHERE id = %s"
    select = "SELECT name FROM shop_item WHERE id = %s"
    threads = [
        threading.Thread(target=_use, args=(database, sql, kept, ends))
        for sql, kept, count in (
            (select, waits.readers, _READERS),
            (update, waits.writers, _WRITERS),
        )
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield waits
    finally:
        ends.set()
        for thread in threads:
            thread.join()


def _use(database: Database, sql: str, kept: list[float], ends: threading.Event) -> None:
    with database.connect() as connection:
        cursor = connection.cursor()
        while not ends.wait(_PAUSE):
            row = random.randint(1, _ROWS)  # noqa: S311 - not a secret
            kept.append(places.seconds(lambda: _once(cursor, sql, row)))  # noqa: B023


def _once(cursor: Any, sql: str, row: int) -> None:
    cursor.execute(sql, [row])
    if sql.startswith("SELECT"):
        cursor.fetchall()
