"""Tests that a run does not block other sessions. Scenarios E1 to E3 and C7."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql

from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import ADD_SKU, RUN, WRITE_THREE, WRITTEN, migration
from tests.harness.pairs import on
from tests.harness.project import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.site import Site

GONE = (psycopg.Error, pymysql.err.MySQLError)
READERS = 20
SLACK = 1.0  # seconds allowed on a loaded machine for what should be immediate


def gently(**limits: object) -> Options:
    """Return options with limits for the database `default`."""
    return Options(migration_route={"DATABASES": {"default": limits}})


def with_database(options: dict[str, Any], **more: Any) -> Options:
    """Return options for the connections of the alias `default`."""
    return Options(connection={"OPTIONS": options, **more})


@contextlib.contextmanager
def a_transaction(site: Site) -> Iterator[int]:
    """Hold open a transaction that reads the items; yield the number of its session."""
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
    """Sessions that read the items continuously; each records its longest wait."""

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
    """Return the run once it is reported as blocked."""

    def look() -> Any:
        found = ci.get(f"runs/{run}")
        assert not found["ended"], found
        waiting = found["waiting"]
        return found if waiting and waiting["reason"] == "blocked" else None

    return until(look, seconds=30, what="the run is shown as blocked")


def attempts(ci: Any, run: str) -> list[dict[str, Any]]:
    """Return the events of the attempts."""
    return [e["facts"] for e in ci.events(run) if e["kind"] == "lock_attempt"]


@on("postgres-gthread")
def test_e1_readers_do_not_queue_up_behind_a_run_that_waits(build, pair):
    """A transaction holds the table for ten seconds: readers continue, the run shows what
    blocks it, and succeeds when the table is free."""
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
    assert ends[-1]["blocking_ms"] <= 20_000
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


@on("postgres-sync", "mariadb-gthread")
def test_e2_a_run_whose_table_never_comes_free_fails_in_its_time(build, pair):
    """The budgets are respected, nothing is applied, and the error names the blocking
    session."""
    limits = {"lock_timeout": "500ms", "blocking_budget": "3s", "lock_retry_timeout": "4s"}
    site = build(pair, {"0002_sku": migration(ADD_SKU)}, options=gently(**limits))
    ci = site.client("ci")
    with a_transaction(site) as pid:
        ended = ci.apply()
    assert (ended["state"], ended["outcome"]) == ("failed", "lock_timeout"), ended
    step = ended["steps"][0]
    assert (step["state"], step["error"]["type"]) == ("failed", "LockTimeout")
    assert f"pid {pid} " in step["error"]["message"]
    assert not site.has_column("sku")
    assert site.applied() == ["0001_initial"]
    last = attempts(ci, ended["id"])[-1]
    assert last["blocking_ms"] <= 3000 + 1000 * SLACK
    assert last["waited_ms"] <= 4000 + 1000 * SLACK
    assert ci.apply()["state"] == "succeeded"


@on("postgres-sync")
def test_a_step_that_times_out_in_the_middle_begins_again_as_a_whole(build, pair):
    """It holds locks by then, so it is rolled back at once: other sessions continue, and
    its rows are not written twice."""
    body = 'Item.objects.using(alias).create(name="one")\npass_gate("written")'
    site = build(
        pair,
        {"0002_sku": migration(RUN, ADD_SKU, body=body)},
        options=gently(lock_timeout="300ms"),
    )
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("written")
    with a_transaction(site) as pid:
        site.project.open_gate("written")
        shown = blocked(ci, run["id"])
        assert shown["waiting"]["blockers"][0]["pid"] == pid
        assert site.names() == []
    ended = ci.wait_for_end(run["id"])
    assert ended["state"] == "succeeded", ended
    assert site.names() == ["one"]
    assert site.has_column("sku")
    first = attempts(ci, run["id"])[0]
    assert first["fired"]
    assert first["blocking_ms"] >= 300
    printed = [line for line in ci.printed(run["id"]) if "Applying shop.0002" in line]
    assert len(printed) == 1


@on("postgres-gthread", "mariadb-sync")
def test_a_statement_outside_of_any_transaction_is_sent_again_by_itself(build, pair):
    """The statements before it in the step are not repeated."""
    source = migration(RUN, ADD_SKU, body=WRITE_THREE, atomic=False)
    site = build(pair, {"0002_sku": source}, options=gently(lock_timeout="300ms"))
    ci = site.client("ci")
    with a_transaction(site) as pid:
        run = ci.run(ci.plan())
        shown = blocked(ci, run["id"])
        assert pid in {blocker["pid"] for blocker in shown["waiting"]["blockers"]}
    ended = ci.wait_for_end(run["id"])
    assert ended["state"] == "succeeded", ended
    assert site.names() == WRITTEN
    assert site.has_column("sku")


@on("postgres-uvicorn", "mariadb-gthread")
def test_a_run_that_waits_for_locks_can_be_cancelled(build, pair):
    """It stops while it waits, and nothing of its step is applied."""
    site = build(pair, {"0002_sku": migration(ADD_SKU)}, options=gently())
    ci, operator = site.client("ci"), site.client("operator")
    with a_transaction(site):
        run = ci.run(ci.plan())
        blocked(ci, run["id"])
        asked = time.monotonic()
        operator.call("POST", f"runs/{run['id']}/cancel", json={"reason": "enough"})
        ended = ci.wait_for_end(run["id"])
        assert time.monotonic() - asked < 5 + SLACK
    assert (ended["state"], ended["outcome"]) == ("cancelled", "cancelled")
    # Either between attempts, or during an attempt, which is then cancelled.
    assert ended["steps"][0]["state"] in {"not_started", "failed"}
    assert ended["waiting"] is None
    assert not site.has_column("sku")
    assert ci.apply()["state"] == "succeeded"


@on("postgres-gthread")
def test_e3_the_limits_of_the_web_are_not_those_of_a_migration(build, pair):
    """The web's timeout is one second, the migration takes five; afterwards the web's
    session is unchanged."""
    web = {"options": "-c statement_timeout=1s -c idle_in_transaction_session_timeout=1s"}
    site = build(
        pair,
        {"0002_slow": migration('migrations.RunSQL("SELECT pg_sleep(5)")')},
        options=with_database(web, CONN_MAX_AGE=None),
    )
    before = site.client(None).http.get("/session/").json()
    ended = site.client("ci").apply()
    assert ended["state"] == "succeeded", ended
    assert ended["steps"][0]["duration_ms"] >= 5000
    after = site.client(None).http.get("/session/").json()
    assert (before["statement_timeout"], after["statement_timeout"]) == ("1s", "1s")


@on("postgres-gthread")
def test_c7_nothing_leaks_into_a_pool(build, pair):
    """With Django's pool, the session of the next request has the server's defaults and
    holds no lock."""
    site = build(
        pair,
        {"0002_sku": migration(ADD_SKU)},
        options=with_database({"pool": {"min_size": 1, "max_size": 2}}),
    )
    web = site.client(None).http
    assert web.get("/session/").json()["lock_timeout"] == "0"
    assert site.client("ci").apply()["state"] == "succeeded"
    for _ in range(4):
        found = web.get("/session/").json()
        assert (found["lock_timeout"], found["statement_timeout"]) == ("0", "0")
        assert found["application_name"] == ""
        assert found["locks"] == 0


@on("postgres-gthread")
def test_a_person_ends_who_is_in_the_way(build, pair):
    """Only where the settings allow it, only with the right, and recorded on the ledger;
    other sessions stay."""
    site = build(
        pair,
        {"0002_sku": migration(ADD_SKU)},
        options=gently(allow_terminate_blockers=True),
    )
    ci, boss, helper = site.client("ci"), site.person("boss"), site.person("helper")
    with site.database.connect() as innocent, a_transaction(site) as pid:
        innocent.execute("BEGIN")
        innocent.execute("SELECT count(*) FROM django_migrations")
        run = ci.run(ci.plan())
        blocked(ci, run["id"])
        path, body = (
            f"runs/{run['id']}/terminate-blockers",
            {"reason": "left open overnight"},
        )
        expect_problem(ci.call("POST", path, json=body), 403, "forbidden")
        expect_problem(helper.call("POST", path, json=body), 403, "forbidden")
        expect_problem(boss.call("POST", path, json={}), 400, "invalid_request")
        answer = expect(boss.call("POST", path, json=body), 200)
        assert [ended["pid"] for ended in answer["terminated"]] == [pid]
        assert answer["not_terminated"] == []
        ended = ci.wait_for_end(run["id"])
        assert innocent.execute("SELECT 1").fetchone() == (1,)
    assert ended["state"] == "succeeded", ended
    assert site.has_column("sku")
    expect_problem(boss.call("POST", path, json=body), 409, "invalid_state")
    entry = next(e for e in ci.entries() if e["action"] == "blockers_terminated")
    assert entry["actor"] == {"kind": "user", "name": "boss"}
    assert entry["facts"]["reason"] == "left open overnight"
    assert [ended["pid"] for ended in entry["facts"]["terminated"]] == [pid]
    assert ci.get("ledger/verify")["intact"]


@on("postgres-sync")
def test_ending_others_is_off_unless_it_is_set(build, pair):
    """The refusal names the setting that would allow it; no session is ended."""
    site = build(pair, {"0002_sku": migration(ADD_SKU)})
    ci, boss = site.client("ci"), site.person("boss")
    with a_transaction(site):
        run = ci.run(ci.plan())
        blocked(ci, run["id"])
        answer = boss.call(
            "POST", f"runs/{run['id']}/terminate-blockers", json={"reason": "please"}
        )
        problem = expect_problem(answer, 409, "terminate_blockers_disabled")
        assert "allow_terminate_blockers" in problem["hint"]
        assert not ci.get(f"runs/{run['id']}")["ended"]
        text = site.project.manage("migration_route", "show", run["id"]).stdout
        assert "waiting: blocked" in text
        assert "idle in transaction" in text
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
