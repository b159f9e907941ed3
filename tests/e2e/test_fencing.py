"""Tests of a host that loses its run to another host, and comes back.

Host B (the site's own server) has concluded the run of host A, whose connection was
interrupted or whose processes were frozen for longer than the heartbeat timeout. Whatever A
still does when it returns must have no effect.
"""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import processes
from tests.harness.client import Client, expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.hosts import (
    INTERRUPTIONS,
    Host,
    continue_processes,
    record_of,
    second_host,
    stop_processes,
)
from tests.harness.leftovers import leftovers
from tests.harness.migrations import RUN, column, migration, running
from tests.harness.pairs import on
from tests.harness.project import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.harness.site import Site

SHORT = Options(migration_route={"HEARTBEAT_TIMEOUT": "2s"})
IN_TIME = 45.0
"""Seconds within which the processes of an ended run must end by themselves: one that waits
for a lost answer notices by a keepalive or a timeout of its own."""

Record = dict[str, list[tuple[Any, ...]]]

on_servers = on("postgres-gthread", "mariadb-gthread")
interrupted = pytest.mark.parametrize("how", INTERRUPTIONS)


def write(name: str) -> str:
    """Return the statement with which a step inserts a row."""
    return f'Item.objects.using(alias).create(name="{name}")\n'


CLOSE = "schema_editor.connection.close()\n"
BACKFILL = migration(
    RUN,
    atomic=False,
    body=write("1 begins") + 'pass_gate("backfill")\n' + CLOSE + write("1 ends"),
)
THREE_STEPS = {
    "0002_backfill": BACKFILL,
    "0003_second": running(write("2"), after="0002_backfill"),
    "0004_third": running(write("3"), after="0003_second"),
}
HELD_STEPS = {
    "0002_first": running('pass_gate("first")\n' + write("1")),
    "0003_second": running(write("2"), after="0002_first"),
    "0004_third": running(write("3"), after="0003_second"),
}


def begin(host: Host, gate: str) -> str:
    """Start a run of everything on a host, and return its id when it is at the gate."""
    client = host.client()
    run: str = client.run(client.plan())["id"]
    host.project.await_gate(gate)
    return run


def begin_held(host: Host, gate: str) -> str:
    """Start a run on a host, and return its id when it is paused after its first step."""
    run = begin(host, gate)
    client = host.client()
    expect(client.call("POST", f"runs/{run}/pause", json={"reason": "a walk"}), 200)
    host.project.open_gate(gate)
    until(
        lambda: client.get(f"runs/{run}")["state"] == "paused",
        seconds=20,
        what="the run is held",
    )
    return run


def assert_over(site: Site, host: Host, run: str, record: Record) -> None:
    """Assert that a recovered host ends the run it has lost by itself, has changed nothing
    and left nothing."""
    host.await_end_of(run, seconds=IN_TIME)
    found = record_of(site.database, run)
    for kind, lines in record.items():
        assert found[kind] == lines, f"the {kind} of the concluded run have changed"
    verified = site.client("ci").get("ledger/verify")
    assert verified["intact"], verified
    ours = [server.process.pid for server in site.servers if server.process]
    assert leftovers(site.database, site.project.folder.parent, ours=ours) == []


def assert_applied_once(site: Site, names: Sequence[str], rows: Sequence[str]) -> None:
    """Assert that each migration is recorded once, and that these rows were written."""
    assert site.applied() == ["0001_initial", *names]
    assert sorted(site.names()) == sorted(rows)


def resolve(site: Site, run: str) -> None:
    """Resolve a partial run on host B: the database is as it should be."""
    body = {"reason": "host A is gone", "how": "as_is"}
    expect(site.person("boss").call("POST", f"runs/{run}/resolve", json=body), 200)


def concluded(ci: Client, run: str) -> dict[str, Any]:
    """Return the run as host B has concluded it."""
    found: dict[str, Any] = ci.wait_for_end(run, seconds=IN_TIME)
    return found


@interrupted
@on_servers
def test_a1_a_worker_that_opens_a_new_session_does_not_continue_a_concluded_run(
    build, pair, how
):
    """Host A is interrupted in a backfill that closes its connection. B concludes the run,
    a user resolves it, and B applies the plan. When A returns, its worker opens no new
    session: nothing runs twice, and A's processes end."""
    site = build(pair, THREE_STEPS, options=SHORT)
    site.project.open_gate("backfill")
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin(host, "backfill")
        host.interrupt(how, run)
        assert concluded(ci, run)["state"] == "partial"
        resolve(site, run)
        assert ci.apply()["state"] == "succeeded"
        record = record_of(site.database, run)
        host.project.open_gate("backfill")
        host.recover(run)
        host.await_end_of(run, seconds=IN_TIME)
        rows = ["1 begins", "1 begins", "1 ends", "2", "3"]
        assert_applied_once(site, list(THREE_STEPS), rows)
        assert_over(site, host, run, record)
    assert ci.plan()["direction"] == "none"


@interrupted
@on_servers
def test_a1_a_worker_does_not_continue_a_run_that_is_only_concluded(build, pair, how):
    """B has concluded the run as partial and no user has resolved it when A returns: the
    backfill does not continue, and its step is not recorded."""
    site = build(pair, THREE_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin(host, "backfill")
        host.interrupt(how, run)
        assert concluded(ci, run)["state"] == "partial"
        record = record_of(site.database, run)
        host.project.open_gate("backfill")
        host.recover(run)
        host.await_end_of(run, seconds=IN_TIME)
        assert_applied_once(site, [], ["1 begins"])
        assert_over(site, host, run, record)
    resolve(site, run)
    site.project.open_gate("backfill")
    assert ci.apply()["state"] == "succeeded"
    rows = ["1 begins", "1 begins", "1 ends", "2", "3"]
    assert_applied_once(site, list(THREE_STEPS), rows)


@interrupted
@on_servers
def test_a2_a_held_run_that_was_concluded_keeps_no_lock(build, pair, how):
    """Host A is interrupted while its run is paused between two steps, and B concludes the
    run and applies the rest. When A returns, it releases its lock and its sessions: a later
    run starts at once, and there is nothing left to cancel."""
    site = build(pair, HELD_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin_held(host, "first")
        host.interrupt(how, run)
        assert concluded(ci, run)["state"] == "failed"
        assert ci.apply()["state"] == "succeeded"
        record = record_of(site.database, run)
        host.recover(run)
        assert_over(site, host, run, record)
        assert_applied_once(site, list(HELD_STEPS), ["1", "2", "3"])
        body = {"reason": "a ghost"}
        answer = site.client("operator").call("POST", f"runs/{run}/cancel", json=body)
        assert expect_problem(answer, 409)["facts"]["state"] == "failed"
    site.project.add_migrations({"0005_more": column("more", after="0004_third")})
    assert ci.apply()["state"] == "succeeded"


@pytest.mark.parametrize("when", ["at any time", "in a transaction"])
@on_servers
def test_a2_a_held_run_of_a_silent_host_is_cancelled_by_force(build, pair, when):
    """Host A is cut off, and the database still keeps its sessions, one of them perhaps
    with the row of the run locked. B detects the missing heartbeat and cancels the paused
    run by force: A's sessions are ended, the next run starts, and A ends when it is
    back."""
    site = build(pair, HELD_STEPS, options=SHORT)
    ci, boss = site.client("ci"), site.person("boss")
    with second_host(site) as host:
        run = begin_held(host, "first")
        if when == "in a transaction":
            quote = b"`" if pair.vendor == "mariadb" else b'"'
            is_cut = host.link.cut_after(b"UPDATE " + quote + b"migration_route_run")
            assert is_cut.wait(20), "no heartbeat is written"
        else:
            host.link.cut()
        until(
            lambda: ci.get(f"runs/{run}")["state"] == "lost",
            seconds=IN_TIME,
            what="the silence of host A is seen",
        )
        body = {"reason": "host A is gone", "force": True}
        expect(boss.call("POST", f"runs/{run}/cancel", json=body), 200)
        assert concluded(ci, run)["state"] == "cancelled"
        assert ci.apply()["state"] == "succeeded"
        record = record_of(site.database, run)
        host.recover(run)
        assert_over(site, host, run, record)
        assert_applied_once(site, list(HELD_STEPS), ["1", "2", "3"])


@interrupted
@on_servers
def test_a3_only_one_host_writes_the_record_of_a_run(build, pair, how):
    """Host A is interrupted in a step that the database rolls back, and B only concludes
    the run. When A returns, its step fails with its session: A records nothing of that, and
    the ledger still verifies."""
    steps = {"0002_first": running(write("1") + 'pass_gate("middle")\n' + write("1"))}
    site = build(pair, steps, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin(host, "middle")
        host.interrupt(how, run)
        concluded(ci, run)
        record = record_of(site.database, run)
        host.project.open_gate("middle")
        host.recover(run)
        assert_over(site, host, run, record)
        assert_applied_once(site, [], [])


@interrupted
@on_servers
def test_a3_a_concluded_run_begins_no_further_step(build, pair, how):
    """Host A is interrupted between two steps, and B only concludes the run: the second
    step does not start on A, whatever A could still reach."""
    site = build(pair, HELD_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin_held(host, "first")
        host.interrupt(how, run)
        assert concluded(ci, run)["state"] == "failed"
        record = record_of(site.database, run)
        host.recover(run)
        assert_over(site, host, run, record)
        assert_applied_once(site, ["0002_first"], ["1"])
    assert ci.apply()["state"] == "succeeded"
    assert_applied_once(site, list(HELD_STEPS), ["1", "2", "3"])


def wait_for_lock(site: Site) -> bool:
    """Return whether a session waits for the row of a run."""
    queries = {
        "postgres": "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND query LIKE '%migration_route_run%'",
        "mariadb": "SELECT 1 FROM information_schema.innodb_trx JOIN"
        " information_schema.processlist ON trx_mysql_thread_id = id"
        " WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()",
    }
    return bool(site.rows(queries[site.pair.vendor]))


@on_servers
def test_a_supervisor_whose_answer_was_lost_ends(build, pair):
    """Host A is cut off while its supervisor waits for the database: the answer is lost,
    and there is nothing to send again. When A returns, the supervisor stops waiting, and no
    session of its worker keeps the database locked."""
    site = build(pair, THREE_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin(host, "backfill")
        with site.database.connect() as blocker:
            cursor = blocker.cursor()
            cursor.execute("BEGIN")
            cursor.execute(
                f"SELECT id FROM migration_route_run WHERE id = '{run}' FOR UPDATE"
            )
            until(lambda: wait_for_lock(site), seconds=20, what="a heartbeat waits")
            host.interrupt("partitioned", run)
        assert concluded(ci, run)["state"] == "partial"
        record = record_of(site.database, run)
        host.project.open_gate("backfill")
        host.recover(run)
        assert_over(site, host, run, record)
        assert_applied_once(site, [], ["1 begins"])


@on_servers
def test_a_frozen_run_that_nobody_has_concluded_continues(build, pair):
    """A freeze alone ends nothing: the database keeps the sessions and locks of host A, so
    B leaves the run alone, and it continues when A resumes."""
    site = build(pair, HELD_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin_held(host, "first")
        frozen = host.run_pids(run)
        stop_processes(frozen)
        until(
            lambda: ci.get(f"runs/{run}")["state"] == "lost",
            seconds=IN_TIME,
            what="the silence of host A is seen",
        )
        continue_processes(frozen)
        until(
            lambda: ci.get(f"runs/{run}")["state"] == "paused",
            seconds=IN_TIME,
            what="the run is held again",
        )
        body = {"reason": "a walk"}
        answer = site.client("operator").call("POST", f"runs/{run}/resume", json=body)
        expect(answer, 200)
        assert ci.wait_for_end(run)["state"] == "succeeded"
        host.await_end_of(run, seconds=IN_TIME)
    assert_applied_once(site, list(HELD_STEPS), ["1", "2", "3"])
    assert ci.get("ledger/verify")["intact"]


@on_servers
def test_a_cut_that_heals_before_the_database_gives_up_ends_nothing(build, pair):
    """Host A is cut off for longer than the heartbeat timeout, and the database keeps its
    sessions: B cannot conclude the run, and A completes it when the link is restored."""
    site = build(pair, THREE_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        run = begin(host, "backfill")
        host.link.cut()
        until(
            lambda: ci.get(f"runs/{run}")["state"] == "lost",
            seconds=IN_TIME,
            what="the silence of host A is seen",
        )
        host.project.open_gate("backfill")
        host.recover(run)
        assert ci.wait_for_end(run)["state"] == "succeeded"
        host.await_end_of(run, seconds=IN_TIME)
    assert_applied_once(site, list(THREE_STEPS), ["1 begins", "1 ends", "2", "3"])
    assert ci.get("ledger/verify")["intact"]


def process_of(site: Site, run: str) -> tuple[str, int] | None:
    """Return the host and the pid of the process that waits with a run."""
    query = f"SELECT host, supervisor_pid FROM migration_route_run WHERE id = '{run}'"
    ((host, pid),) = site.rows(query)
    return (host, pid) if host and pid else None


@interrupted
@on_servers
def test_a_waiting_run_that_another_host_has_taken_over_begins_there_alone(
    build, pair, how
):
    """Host A is interrupted while its run waits for its scheduled time, and B starts a
    process for the run. When A returns, its process ends without starting anything."""
    site = build(pair, {"0002_first": running(write("1"))}, options=SHORT)
    ci = site.client("ci")
    with second_host(site) as host:
        client = host.client()
        at = f"{datetime.now(UTC) + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
        run = client.run(client.plan(), at=at)["id"]
        first = until(lambda: process_of(site, run), seconds=20, what="A waits with it")
        assert first[0] == "host-a"
        host.interrupt(how, run)

        def is_taken_over() -> bool:
            ci.get(f"runs/{run}")  # B checks the run
            found = process_of(site, run)
            return found is not None and found[0] != "host-a"

        until(is_taken_over, seconds=40, what="B waits with it")
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"

        def is_due() -> bool:
            # Again and again: the process of B may just be writing what it waits for.
            site.execute(
                f"UPDATE migration_route_run SET waiting_until = '{now}', "
                f"not_before = '{now}'"
                f" WHERE id = '{run}' AND state = 'waiting'"
            )
            return bool(ci.get(f"runs/{run}")["state"] != "waiting")

        until(is_due, seconds=40, what="B begins it")
        assert ci.wait_for_end(run)["state"] == "succeeded"
        record = record_of(site.database, run)
        host.recover(run)
        assert_over(site, host, run, record)
        assert_applied_once(site, ["0002_first"], ["1"])


@on_servers
def test_a4_a_clock_ahead_keeps_no_dead_run_running(build, pair):
    """The clock of host A is one hour ahead, and its processes die: B concludes the run as
    soon as its heartbeat timeout has passed, not an hour later."""
    site = build(pair, HELD_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site, clock=3600) as host:
        run = begin(host, "first")
        for pid in host.run_pids(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert concluded(ci, run)["state"] in {"failed", "partial"}


@on_servers
def test_a4_a_clock_behind_does_not_lose_a_run_that_is_alive(build, pair):
    """The clock of host A is one hour behind: B treats its run as alive."""
    site = build(pair, HELD_STEPS, options=SHORT)
    ci = site.client("ci")
    with second_host(site, clock=-3600) as host:
        run = begin(host, "first")
        assert ci.get(f"runs/{run}")["state"] == "running"
        host.project.open_gate("first")
        assert ci.wait_for_end(run)["state"] == "succeeded"
        assert "lost" not in {entry["facts"].get("to") for entry in ci.entries()}
        assert processes.living_in(host.project.folder)
