"""The measured project: a temporary one with its own database and server."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.harness import databases
from tests.harness.client import Client
from tests.harness.database import Database
from tests.harness.project import SECRETS, Options, Project
from tests.harness.servers import ServerKind, WebServer

LONG = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A project with a server in front of it."""

    vendor: str
    project: Project
    client: Client


@contextlib.contextmanager
def place(
    vendor: str,
    *,
    options: Options | None = None,
    files: dict[str, str] | None = None,
    texts: dict[str, str] | None = None,
    aliases: tuple[str, ...] = ("default",),
) -> Iterator[Place]:
    """Build a project with these `shop` migrations and these other files, path to text, and
    a database for each alias, and serve it with threads."""
    with tempfile.TemporaryDirectory(prefix="route-bench-") as folder:
        created: dict[str, Database] = {}
        try:
            for alias in aliases:
                created[alias] = databases.create(vendor, Path(folder))
            project = Project(Path(folder) / "project", created, options or Options())
            project.add_migrations(files or {})
            for path, text in (texts or {}).items():
                project.write(path, text)
            with _served(project) as client:
                yield Place(vendor=vendor, project=project, client=client)
        finally:
            for database in created.values():
                database.drop()


@contextlib.contextmanager
def _served(project: Project) -> Iterator[Client]:
    server = WebServer(project, ServerKind.THREADS)
    server.start()
    client = Client(server.url, token=SECRETS["operator"])
    try:
        yield client
    finally:
        client.http.close()
        server.stop()


def vendors(*wanted: str) -> list[str]:
    """Return the requested databases that are available on this machine."""
    return [vendor for vendor in wanted if vendor not in databases.missing()]


def seconds(action: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def typed(place: Place, *arguments: str) -> float:
    """Return how long `manage.py migrate` takes."""
    return seconds(
        lambda: place.project.manage("migrate", *arguments, "-v", "1", timeout=LONG)
    )


def routed(place: Place, *targets: str) -> float:
    """Return how long a run takes, from the request to its end."""
    plan = place.client.plan(*targets)

    def run() -> None:
        asked = place.client.ask_for_run(plan, headers={"Prefer": "wait=30"})
        ended = asked.json()
        while not ended["ended"]:
            time.sleep(0.05)
            ended = place.client.get(f"runs/{ended['id']}")
        if ended["state"] != "succeeded":
            raise RuntimeError(ended)

    return seconds(run)


def commanded(place: Place, verb: str, *arguments: str) -> float:
    """Return how long a verb of the command takes."""
    words = ("migration_route", verb, *arguments)
    return seconds(lambda: place.project.manage(*words, timeout=LONG))


def empty(database: Database) -> None:
    """Empty a database, as `DROP` and `CREATE` do."""
    database.drop()
    database.create()


def compared(label: str, base: list[float], *others: list[float]) -> str:
    """Return one line of a table: the medians, and their ratios to the first one."""
    first, *medians = map(median, (base, *others))
    cells = (f"{found:8.2f} s {found / first:5.2f} x" for found in medians)
    return f"{label:<42} {first:8.2f} s  {'  '.join(cells)}"
