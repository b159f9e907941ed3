"""Tests that a connection pool below Django is refused by name, and bypassed by a direct
alias."""

from __future__ import annotations

import pytest

from tests.e2e.test_pooler import advisory_locks
from tests.e2e.test_rehearsal import rehearse
from tests.harness.client import expect, expect_problem
from tests.harness.migrations import WRITE_THREE, WRITTEN, column, running
from tests.harness.packages import needs
from tests.harness.pairs import Pair, on
from tests.harness.project import Options
from tests.harness.servers import ServerKind

GEVENTPOOL = {
    "ENGINE": "django_db_geventpool.backends.postgresql_psycopg3",
    "OPTIONS": {"MAX_CONNS": 8, "REUSE_CONNS": 4},
}
SQLALCHEMY = {
    "ENGINE": "dj_db_conn_pool.backends.postgresql",
    "POOL_OPTIONS": {"POOL_SIZE": 5, "MAX_OVERFLOW": 5},
}
SMALL = {**SQLALCHEMY, "POOL_OPTIONS": {"POOL_SIZE": 2, "MAX_OVERFLOW": 0, "TIMEOUT": 1}}
SQLALCHEMY_ON_MYSQL = {**SQLALCHEMY, "ENGINE": "dj_db_conn_pool.backends.mysql"}
GEVENT = {"worker_class": "gevent", "workers": 1, "timeout": 30}
USES_BOOK = """
from django.db import connections
with connections["book"].cursor() as cursor:
    for number in range(200):
        cursor.execute("SELECT %s", [number])
        assert cursor.fetchone() == (number,)
print("the book was read")
"""

on_each_pool = pytest.mark.parametrize(
    ("pair", "pool", "server"),
    [
        pytest.param(
            Pair("postgres", ServerKind.SYNC),
            GEVENTPOOL,
            GEVENT,
            marks=needs("django-db-geventpool", "gevent"),
            id="geventpool",
        ),
        pytest.param(
            Pair("postgres", ServerKind.THREADS),
            SQLALCHEMY,
            {},
            marks=needs("django-db-connection-pool"),
            id="connection-pool",
        ),
        pytest.param(
            Pair("mariadb", ServerKind.SYNC),
            SQLALCHEMY_ON_MYSQL,
            {},
            marks=needs("django-db-connection-pool", "PyMySQL"),
            id="connection-pool-mariadb",
        ),
    ],
)


@pytest.fixture
def pooled(build):
    """Return a builder of sites whose `default` uses a pool; with `direct`, the alias
    `straight` bypasses it."""

    def make(pair, migrations, pool, *, direct, **server):
        site = build(pair, migrations, serve=False)
        straight = site.database.settings()
        route = {"DATABASES": {"default": {"direct_alias": "straight"}}} if direct else {}
        site.project.set_options(
            Options(
                connection=pool,
                settings={"DATABASES": {"straight": straight} if direct else {}},
                migration_route=route,
            )
        )
        site.serve(**server)
        return site

    return make


@on_each_pool
def test_a_pool_is_refused_before_a_run_exists(pooled, pair, pool, server):
    """API and command name the setting that bypasses it; the plan is still available."""
    site = pooled(pair, {"0002_sku": column("sku")}, pool, direct=False, **server)
    ci = site.client("ci")
    for _ in range(2):
        problem = expect_problem(ci.ask_for_run(ci.plan()), 409, "pooler_detected")
        assert '["direct_alias"]' in problem["hint"]
        assert "connection pool" in problem["detail"]
    assert ci.get("runs")["runs"] == []
    answer = site.project.manage("migration_route", "apply", "--yes", check=False)
    assert answer.returncode == 5
    assert '["direct_alias"]' in answer.stderr
    typed = site.project.manage("migrate")
    assert "takes no lock" in typed.stderr
    assert site.has_column("sku")


@on_each_pool
def test_past_a_pool_everything_works(pooled, pair, pool, server):
    """With a direct alias: twice by the API, by the command, and a rehearsal."""
    site = pooled(pair, {"0002_write": running(WRITE_THREE)}, pool, direct=True, **server)
    ci = site.client("ci")
    assert ci.apply()["state"] == "succeeded"
    assert site.names() == WRITTEN
    site.project.add_migrations({"0003_sku": column("sku", after="0002_write")})
    rehearsed = rehearse(site.client("operator"), ci.plan())
    assert rehearsed["state"] == "succeeded", rehearsed
    assert not site.has_column("sku")
    assert ci.apply()["state"] == "succeeded"
    assert site.has_column("sku")
    site.project.add_migrations({"0004_more": column("more", after="0003_sku")})
    site.project.manage("migration_route", "apply", "--yes")
    assert ci.status()["default"]["pending"] == 0
    assert [found["state"] for found in ci.get("runs")["runs"]] == ["succeeded"] * 3
    assert ci.get("ledger/verify")["intact"]
    assert site.person("boss").http.get("/_m/").status_code == 200
    assert expect(site.client(None).call("GET", "ready"), 200) == {"ready": True}


@needs("django-db-connection-pool")
@on("postgres-sync")
def test_a_small_pool_is_refused_as_well(pooled, pair):
    """The request holds one of its two connections: the canary opens one at a time."""
    site = pooled(pair, {"0002_sku": column("sku")}, SMALL, direct=False, timeout=30)
    ci = site.client("ci")
    expect_problem(ci.ask_for_run(ci.plan()), 409, "pooler_detected")


@on("postgres-sync", "postgres-gthread")
def test_the_pool_of_django_is_left(build, pair):
    """`OPTIONS["pool"]` needs no direct alias: this package's connections are not
    pooled."""
    options = Options(connection={"OPTIONS": {"pool": True}})
    site = build(pair, {"0002_write": running(WRITE_THREE)}, options=options)
    ci = site.client("ci")
    assert ci.apply()["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert advisory_locks(site) == 0


@needs("django-db-geventpool", "gevent")
@on("postgres-sync")
def test_no_connection_of_a_pool_is_shared_by_supervisor_and_worker(build, pair):
    """The ledger is in a pool, and the migration uses the same database."""
    site = build(
        pair,
        {"0002_sku": column("sku"), "0003_book": running(USES_BOOK, after="0002_sku")},
        others=("book",),
        options=Options(migration_route={"LEDGER_DATABASE": "book"}),
        timeout=30,
    )
    assert site.client("ci").apply("shop.0002_sku")["state"] == "succeeded"
    book = {**site.project.databases["book"].settings(), **GEVENTPOOL}
    site.project.set_options(
        Options(
            settings={"DATABASES": {"book": book}},
            migration_route={"LEDGER_DATABASE": "book"},
        )
    )
    ci = site.client("ci", server=site.serve(**GEVENT))
    run = ci.apply()
    assert run["state"] == "succeeded", ci.events(run["id"])
    assert "the book was read" in ci.printed(run["id"])
    assert ci.get("ledger/verify")["intact"]
