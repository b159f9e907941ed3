"""Tests that conditions of a whole server pause a run, on temporary PostgreSQL servers."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_health import await_stop, held, watchful
from tests.harness import databases
from tests.harness.clusters import Cluster, cluster, standby_of
from tests.harness.deadlines import until
from tests.harness.migrations import column
from tests.harness.pairs import Pair
from tests.harness.prepared import MAKE_PEOPLE
from tests.harness.project import Options, Project
from tests.harness.servers import ServerKind
from tests.harness.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAIR = Pair("postgres", ServerKind.SYNC)
FLAG = "may-archive"
MB = 1024 * 1024
LIST = "SELECT oid FROM pg_database"


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A PostgreSQL server that archives on request, with a low limit of connections."""
    settings = {
        "archive_mode": "on",
        "archive_command": f"test -e {FLAG}",  # in its data directory
        "max_connections": "43",
    }
    try:
        with cluster(settings) as found:
            (found.root / "data" / FLAG).touch()
            yield found
    except databases.NotHere as reason:
        pytest.skip(str(reason))


@pytest.fixture
def build(tmp_path: Path, server: Cluster) -> Iterator[Callable[..., Site]]:
    """Return the builder of sites on that server."""
    with contextlib.ExitStack() as leftovers:

        def build(options: Options, migrations: dict[str, str] | None = None) -> Site:
            database = server.database(f"own_{len(server.database().rows(LIST))}")
            database.create()
            leftovers.callback(database.drop)
            project = Project(tmp_path / "project", {"default": database}, options)
            project.manage("migrate", "--verbosity", "0")
            project.python(MAKE_PEOPLE)
            project.add_migrations(migrations or {"0002_sku": column("sku")})
            site = Site(PAIR, project)
            leftovers.callback(site.stop)
            site.serve()
            return site

        yield build


def begun_in_spite(site: Site, name: str) -> tuple[Any, str]:
    """Start a run while this signal stops runs; return a client, and the id of the paused
    run."""
    ci = site.client("ci")
    await_stop(ci, name)
    run = ci.run(ci.plan())["id"]
    held(ci, run, name)
    assert not site.has_column("sku")
    return ci, run


def told_of(ci: Any, run: str) -> Any:
    """Return the one signal that pauses a run."""
    signals = ci.get(f"runs/{run}")["waiting"]["signals"]
    [told] = [one for one in signals if one["state"] == "stop"]
    return told


def ends_well(site: Site, ci: Any, run: str) -> None:
    """Assert that the run continues by itself once the signal has cleared."""
    ended = ci.wait_for_end(run)
    assert ended["state"] == "succeeded", ended
    assert site.has_column("sku")
    assert ci.get("ledger/verify")["intact"]


def test_a_server_that_is_full_holds_a_run(build, server):
    """Other sessions use up the connections; when they close, the run starts."""
    site = build(watchful(connections=0.5))
    with contextlib.ExitStack() as crowd:
        for _ in range(22):
            crowd.enter_context(server.database().connect())
        ci, run = begun_in_spite(site, "connections")
        assert told_of(ci, run)["facts"]["admitted"] == 40
    ends_well(site, ci, run)


def test_an_archive_that_fails_holds_a_run(build, server):
    """WAL accumulates; when archiving works again, the run starts."""
    site = build(watchful())
    archive = server.root / "data" / FLAG
    archive.unlink()
    try:
        server.database().execute("SELECT pg_switch_wal()")
        ci, run = begun_in_spite(site, "archive")
    finally:
        archive.touch()
    # The archiver pauses for a minute after three failures, unless there is more to do.
    server.database().execute("SELECT txid_current()", "SELECT pg_switch_wal()")
    ends_well(site, ci, run)


def test_an_archive_that_cannot_keep_up_holds_a_run(build, server):
    """There has been no failure yet, but more segments wait than are allowed."""
    site = build(watchful(archive_waiting=2))
    server.set("archive_command", "sleep 3 && true")
    try:
        for _ in range(6):
            server.database().execute("SELECT txid_current()", "SELECT pg_switch_wal()")
        ci, run = begun_in_spite(site, "archive")
        told = told_of(ci, run)
        assert "wait to be archived" in told["reason"]
    finally:
        server.set("archive_command", f"test -e {FLAG}")
    ends_well(site, ci, run)


def test_a_standby_that_lags_holds_a_run(build, server):
    """It replays with a delay; when it has caught up, the run starts."""
    site = build(watchful(replication_lag="1s"))
    with standby_of(server, {"recovery_min_apply_delay": "4s"}) as standby:
        database = server.database()
        until(
            lambda: database.rows("SELECT 1 FROM pg_stat_replication"),
            seconds=30,
            what="the standby follows",
        )
        lag = "SELECT 1 FROM pg_stat_replication WHERE replay_lag > '1 s'"

        def lags() -> bool:
            database.execute("SELECT txid_current()")
            return bool(database.rows(lag))

        until(lags, seconds=40, what="the standby lags", every=0.3)
        ci, run = begun_in_spite(site, "replication_lag")
        told = told_of(ci, run)
        assert told["facts"]["lag_seconds"] > 1
        [asked] = standby.database().rows("SELECT pg_is_in_recovery()")
        assert asked == (True,)
        with (standby.root / "data" / "postgresql.auto.conf").open("a") as file:
            file.write("recovery_min_apply_delay = 0\n")
        standby.database().execute("SELECT pg_reload_conf()")
        ends_well(site, ci, run)


def test_a_standby_that_does_not_replay_holds_a_run_by_bytes(build, server):
    """Its lag in time is unknown then; its lag in bytes is known."""
    site = build(watchful(replication_bytes=MB))
    with standby_of(server) as standby:
        until(
            lambda: server.database().rows("SELECT 1 FROM pg_stat_replication"),
            seconds=30,
            what="the standby follows",
        )
        standby.database().execute("SELECT pg_wal_replay_pause()")
        site.execute(
            "CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 4000)"
        )
        ci, run = begun_in_spite(site, "replication_lag")
        standby.database().execute("SELECT pg_wal_replay_resume()")
        # Of the standby itself the status says that it cannot be changed.
        follower = standby.database(site.database.name).settings()
        more = {"DATABASES": {"follower": follower}}
        site.project.set_options(replace(site.project.options, settings=more))
        answer = site.project.manage(
            "migration_route", "health", "--database", "follower", check=False
        )
        assert answer.returncode == 5, answer.stderr
        assert "This server is a standby" in answer.stdout
        ends_well(site, ci, run)


def test_a_dump_holds_a_run(build, server, tmp_path):
    """A real pg_dump with a slow reader keeps its snapshot until it is read to the end."""
    site = build(watchful(ignore=["long_transaction"]))
    site.execute(
        "INSERT INTO shop_item (name) SELECT repeat('x', 90) FROM generate_series(1, 30000)"
    )
    command = [server.binaries / "pg_dump", "-h", "127.0.0.1", "-p", str(server.port)]
    command += ["-U", "postgres", site.database.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/") as dump:
        ci, run = begun_in_spite(site, "dump")
        told = told_of(ci, run)
        assert told["facts"]["application"] == "pg_dump"
        words, _ = dump.communicate(timeout=60)
    assert dump.returncode == 0
    assert b"COPY public.shop_item" in words
    ends_well(site, ci, run)


BURN = """
DO $$ BEGIN
  FOR number IN 1..110000 LOOP
    BEGIN
      INSERT INTO burnt VALUES (number);
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
  END LOOP;
END $$
"""
AGE = "SELECT age(relfrozenxid) FROM pg_class WHERE oid = 'shop_item'::regclass"


@pytest.mark.slow
def test_a_vacuum_against_a_wraparound_holds_a_run(build, server):
    """A real one: the table is older than allowed, and its vacuum is slow."""
    site = build(watchful(ignore=["long_transaction"]))
    site.execute(
        "INSERT INTO shop_item (name) SELECT repeat('x', 90) FROM generate_series(1, 4000)",
        "ALTER TABLE shop_item SET (autovacuum_enabled = false)",
        "CREATE TABLE burnt (number int) WITH (autovacuum_enabled = false)",
        BURN,
        "ALTER TABLE shop_item SET (autovacuum_freeze_max_age = 100000, "
        "autovacuum_freeze_min_age = 0, "
        "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)",
    )
    [(age,)] = site.rows(AGE)
    assert age > 100_000
    ci, run = begun_in_spite(site, "wraparound")
    told = told_of(ci, run)
    assert "to prevent wraparound" in told["facts"]["sessions"][0]["query"]
    ended = ci.wait_for_end(run, seconds=120)
    assert ended["state"] == "succeeded", ended
    assert site.rows(AGE)[0][0] < age
