"""Tests that a run outlives the request that started it. Scenarios D1 to D3, and rows u and
v."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import httpx
import pytest

from tests.harness import processes
from tests.harness.deadlines import until
from tests.harness.migrations import WRITE_THREE, WRITTEN, running
from tests.harness.pairs import on, on_each_once, on_every_pair
from tests.harness.project import Options

LONGER_THAN_A_WORKER_MAY_TAKE = 8


@on_every_pair
def test_d1_a_run_outlives_the_patience_of_the_server(build, pair):
    """A migration that takes longer than the worker's timeout gets a response at once, and
    ends."""
    sleep = f"time.sleep({LONGER_THAN_A_WORKER_MAY_TAKE})"
    site = build(pair, {"0002_write": running(f"{WRITE_THREE}\n{sleep}")})
    ci = site.client("ci")
    pids = site.server.worker_pids()
    plan = ci.plan()
    asked = time.monotonic()
    run = ci.run(plan)
    assert time.monotonic() - asked < LONGER_THAN_A_WORKER_MAY_TAKE - 3
    assert not run["ended"]
    ended = ci.wait_for_end(run["id"])
    assert ended["state"] == "succeeded"
    assert ended["steps"][0]["duration_ms"] >= LONGER_THAN_A_WORKER_MAY_TAKE * 1000
    assert site.names() == WRITTEN
    assert site.server.worker_pids() == pids


@on_every_pair
def test_d2_a_run_outlives_its_caller(build, pair):
    """The client disconnects while it waits; the run completes and can be read by its
    id."""
    site = build(pair, {"0002_write": running(WRITE_THREE + 'pass_gate("written")')})
    ci = site.client("ci")
    plan = ci.plan()
    with pytest.raises(httpx.TimeoutException):
        ci.ask_for_run(
            plan,
            headers={"Prefer": "wait=30", "Idempotency-Key": "hung-up"},
            timeout=0.5,
        )
    site.project.await_gate("written")
    site.project.open_gate("written")
    runs = until(lambda: ci.get("runs")["runs"], seconds=20, what="the run is listed")
    assert len(runs) == 1
    ended = ci.wait_for_end(runs[0]["id"])
    assert ended["state"] == "succeeded"
    assert site.names() == WRITTEN
    again = ci.ask_for_run(plan, headers={"Idempotency-Key": "hung-up"}).json()
    assert again["id"] == ended["id"]


@on_each_once
def test_d3_a_run_whose_processes_were_killed_is_not_running(build, pair):
    """Killed midway, a run is failed soon after its heartbeat timeout, and the next one
    succeeds."""
    site = build(
        pair,
        {"0002_write": running('pass_gate("middle")\n' + WRITE_THREE)},
        options=Options(migration_route={"HEARTBEAT_TIMEOUT": "2s"}),
    )
    ci = site.client("ci")
    before = processes.living_in(site.project.folder)
    run = ci.run(ci.plan())
    site.project.await_gate("middle")
    at_work = processes.living_in(site.project.folder) - before
    assert at_work
    for pid in at_work:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended = ci.wait_for_end(run["id"], seconds=20)
    assert ended["state"] == "failed"
    assert site.applied() == ["0001_initial"]
    assert [step["name"] for step in ci.plan()["steps"]] == ["0002_write"]
    site.project.open_gate("middle")
    assert ci.apply()["state"] == "succeeded"
    assert site.names() == WRITTEN


@on("sqlite-gthread", "postgres-sync", "mariadb-gthread")
def test_u_a_run_outlives_the_recycling_of_the_worker_that_started_it(build, pair):
    """A server that replaces a worker after two responses ends no run."""
    body = f'pass_gate("middle")\n{WRITE_THREE}'
    site = build(pair, {"0002_write": running(body)}, workers=1, max_requests=2)
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("middle")
    before = site.server.answering_pid()
    until(
        lambda: site.server.answering_pid() != before,
        seconds=30,
        what="another worker answers",
    )
    assert ci.get(f"runs/{run['id']}")["state"] == "running"
    site.project.open_gate("middle")
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.names() == WRITTEN


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGTERM], ids=lambda n: n.name)
@on("sqlite-gthread", "postgres-sync", "mariadb-gthread")
def test_v_a_run_outlives_a_worker_that_is_ended(build, pair, number):
    """After a timeout or an orderly restart the run continues, and any later worker reports
    it."""
    body = f'pass_gate("middle")\n{WRITE_THREE}'
    site = build(pair, {"0002_write": running(body)})
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("middle")
    before = site.server.worker_pids()
    for pid in before:
        os.kill(pid, number)
    until(
        lambda: site.server.worker_pids() and not site.server.worker_pids() & before,
        seconds=30,
        what="every worker is a new one",
    )
    assert ci.get(f"runs/{run['id']}")["state"] == "running"
    site.project.open_gate("middle")
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write"]
