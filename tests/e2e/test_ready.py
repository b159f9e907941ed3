"""Tests of the readiness endpoint. Scenario G1."""

from __future__ import annotations

import contextlib
import statistics
import time

from tests.harness.client import API
from tests.harness.migrations import column, migration
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options

LOCK_THE_USERS = {
    "sqlite": ["BEGIN IMMEDIATE"],
    "postgres": ["BEGIN", "LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE"],
    "mariadb": ["LOCK TABLES auth_user WRITE"],
}
MANY = 1000


def ready(site):
    """Request readiness anonymously, as a load balancer does."""
    return site.client(None).http.get(f"{API}ready").status_code


@on_each_once
def test_g1_ready_is_503_while_something_is_pending(build, pair):
    """503 while a migration is pending, 200 when none is, and the request writes
    nothing."""
    site = build(pair, {"0002_sku": column("sku")})
    tables = site.database.tables()
    assert ready(site) == 503
    assert site.database.tables() == tables
    site.client("ci").apply()
    assert ready(site) == 200
    site.project.add_migrations({"0003_size": column("size", after="0002_sku")})
    restarted = site.serve()
    assert site.client(None, server=restarted).http.get(f"{API}ready").status_code == 503


@on("postgres-sync")
def test_g1_ready_makes_no_table_in_an_empty_database(build, pair):
    """An empty database is not ready, and stays empty."""
    site = build(pair, empty=("default",))
    assert ready(site) == 503
    assert site.database.tables() == set()


@on_each_once
def test_g1_ready_answers_while_the_user_table_is_locked(build, pair):
    """Neither readiness nor status with a token waits for the table of users."""
    site = build(pair)
    reader = site.client("reader")
    with site.database.connect() as connection:
        with contextlib.closing(connection.cursor()) as cursor:
            for statement in LOCK_THE_USERS[pair.vendor]:
                cursor.execute(statement)
        asked = time.monotonic()
        assert ready(site) == 200
        assert reader.status()["default"]["pending"] == 0
        assert time.monotonic() - asked < 4


@on("mariadb-uvicorn")
def test_g1_a_database_ahead_of_the_code_is_ready_unless_it_must_not_be(build, pair):
    """A migration that only the database has is listed; settings say whether it matters."""
    site = build(pair, workers=1)
    site.execute(
        "INSERT INTO django_migrations (app, name, applied)"
        " VALUES ('shop', '0002_from_the_future', '2026-01-01 00:00:00')"
    )
    assert ready(site) == 200
    status = site.client("reader").status()["default"]
    assert status["ahead"] == ["shop.0002_from_the_future"]
    assert status["pending"] == 0
    site.project.set_options(Options(migration_route={"READY_WHEN_AHEAD": False}))
    strict = site.serve(workers=1)
    assert site.client(None, server=strict).http.get(f"{API}ready").status_code == 503


@on("sqlite-sync")
def test_g1_ready_is_quick_with_a_thousand_migrations(build, pair):
    """A warm response does not take longer with a long history."""
    names = ["0001_initial", *(f"{number:04}_more" for number in range(2, MANY + 1))]
    site = build(
        pair,
        {name: migration(after=names[index]) for index, name in enumerate(names[1:])},
        serve=False,
    )
    values = ", ".join(f"('shop', '{name}', '2026-01-01 00:00:00')" for name in names[1:])
    site.execute(f"INSERT INTO django_migrations (app, name, applied) VALUES {values}")
    site.serve(workers=1)
    nobody = site.client(None)
    for path in ("ready", "status"):
        caller = nobody if path == "ready" else site.client("reader")
        assert caller.call("GET", path).status_code == 200
        times = []
        for _ in range(15):
            asked = time.monotonic()
            assert caller.call("GET", path).status_code == 200
            times.append(time.monotonic() - asked)
        assert statistics.median(times) < 1
