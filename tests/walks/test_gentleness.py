"""Does a run keep nobody waiting? Scenarios E1 to E3 and C7."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql

from tests.harness.deadlines import until
from tests.harness.migrations import ADD_SKU, migration
from tests.harness.pairs import on
from tests.harness.project import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.site import Site

GONE = (psycopg.Error, pymysql.err.MySQLError)
READERS = 20
SLACK = 1.0  # seconds that this loaded machine may take for what is instant


def gently(**limits: object) -> Options:
    """Give limits to the database `default`."""
    return Options(migration_route={"DATABASES": {"default": limits}})


@contextlib.contextmanager
def a_transaction(site: Site) -> Iterator[int]:
    """Let somebody read the items, and not come to an end; give the number by which the
    database knows them."""
    with site.database.connect() as connection:
        cursor = connection.cursor()
        name = "connection_id" if site.pair.vendor == "mariadb" else "pg_backend_pid"
        cursor.execute(f"SELECT {name}()")
        (pid,) = cursor.fetchone()
        cursor.execute("BEGIN")
        cursor.execute("SELECT count(*) FROM shop_item")
        cursor.fetchall()
        yield int(pid)
        with contextlib.suppress(*GONE):
            cursor.execute("ROLLBACK")


class Readers:
    """People who read the items all the time; each keeps its longest wait."""

    def __init__(self, site: Site, count: int) -> None:
        self._site = site
        self._ends = threading.Event()
        self.longest = [0.0] * count
        self.reads = [0] * count
        self._threads = [
            threading.Thread(target=self._read, args=(position,))
            for position in range(count)
        ]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        until(lambda: all(self.reads), seconds=30, what="everybody has read once")
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _read(self, position: int) -> None:
        with self._site.database.connect() as connection:
            cursor = connection.cursor()
            while not self._ends.is_set():
                start = time.monotonic()
                cursor.execute("SELECT count(*) FROM shop_item")
                cursor.fetchall()
                taken = time.monotonic() - start
                self.longest[position] = max(self.longest[position], taken)
                self.reads[position] += 1
                self._ends.wait(0.02)


def blocked(ci: Any, run: str) -> Any:
    """Return the run once it is shown waiting for somebody."""

    def look() -> Any:
        found = ci.get(f"runs/{run}")
        assert not found["ended"], found
        waiting = found["waiting"]
        return found if waiting and waiting["reason"] == "blocked" else None

    return until(look, seconds=30, what="the run is shown as blocked")


def attempts(ci: Any, run: str) -> list[dict[str, Any]]:
    """Return what the events tell of the attempts."""
    return [e["facts"] for e in ci.events(run) if e["kind"] == "lock_attempt"]


@on("postgres-gthread")
def test_e1_readers_do_not_queue_up_behind_a_run_that_waits(build, pair):
    """A transaction holds the table for ten seconds: readers go on, the run shows whom
    it waits for, and succeeds when the table is free."""
    site = build(pair, {"0002_sku": migration(ADD_SKU)}, options=gently())
    ci = site.client("ci")
    with Readers(site, READERS) as readers:
        with a_transaction(site) as pid:
            began = time.monotonic()
            run = ci.run(ci.plan())
            shown = blocked(ci, run["id"])
            until(
                lambda: time.monotonic() - began > 10,
                seconds=20,
                what="ten seconds have passed",
            )
            later = blocked(ci, run["id"])
        ended = ci.wait_for_end(run["id"])
    assert ended["state"] == "succeeded", ended
    assert site.has_column("sku")
    assert shown["state"] == "waiting"
    assert [b["pid"] for b in later["waiting"]["blockers"]] == [pid]
    blocker = later["waiting"]["blockers"][0]
    assert blocker["user"] == "postgres"
    assert blocker["state"] == "idle in transaction"
    assert "FROM shop_item" in blocker["query"]
    assert blocker["since"].endswith("Z")
    assert later["waiting"]["attempt"] > shown["waiting"]["attempt"] >= 1
    assert "public.shop_item" in later["waiting"]["tables"]
    assert max(readers.longest) < 1 + SLACK
    found = attempts(ci, run["id"])
    assert len(found) > 1
    assert all(b["pid"] == pid for facts in found for b in facts["blockers"])
    ends = [e["facts"] for e in ci.entries() if e["action"] == "step_finished"]
    assert ends[-1]["attempts"] == len(found)
    assert ends[-1]["stalled_ms"] <= 20_000
    states = [
        (e["facts"]["to"], e["facts"]["waiting"])
        for e in ci.entries()
        if e["action"] == "run_state"
    ]
    assert states == [
        ("running", ""),
        ("waiting", "blocked"),
        ("running", ""),
        ("succeeded", ""),
    ]
