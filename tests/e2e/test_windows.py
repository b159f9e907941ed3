"""Tests that a run waits for its window and starts once, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import processes
from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import column, running
from tests.harness.pairs import on
from tests.harness.project import Options
from tests.harness.workers import Background, window_in, worker

if TYPE_CHECKING:
    from tests.harness.site import Site

STARTED = """\
with open("started.txt", "a") as file:
    file.write(f"{os.getpid()}\\n")
Item.objects.using(alias).create(name="written")
"""


pytestmark = pytest.mark.timeout(400)  # many processes are started one after another
FAR = 7200.0  # seconds: longer than any test
SLOW = 60  # seconds that a busy machine may need for one request


def options(**settings: Any) -> Options:
    """Return options with these settings of MIGRATION_ROUTE."""
    return Options(migration_route=settings)


def later(seconds: float = FAR) -> str:
    """Return a time in the future."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def let_its_time_come(
    site: Site, run: str, *, changed: Options | None = None, **settings: Any
) -> None:
    """Move the start of a waiting run to now, in the settings and in its row."""
    site.project.set_options(changed or options(**settings))
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    site.execute(
        f"UPDATE migration_route_run SET waiting_until = '{now}', "
        f"not_before = CASE not_before WHEN '' THEN '' ELSE '{now}' END "
        f"WHERE id = '{run}' AND state = 'waiting'"
    )


def is_gone(site: Site, pid: int) -> None:
    """Wait until a process has ended."""
    until(
        lambda: pid not in processes.living_in(site.project.folder),
        seconds=60,
        what=f"{pid} is gone",
    )


def starts(site: Site) -> int:
    """Count the workers that have started the migration."""
    file = site.project.folder / "started.txt"
    return len(file.read_text().split()) if file.exists() else 0


def carrier_of(site: Site, run: str) -> int:
    """Return the pid of the process that waits with a run."""

    def look() -> int | None:
        rows = site.rows(
            f"SELECT supervisor_pid FROM migration_route_run WHERE id = '{run}'"
        )
        return rows[0][0] if rows else None

    return until(look, seconds=90, what=f"a process waits with {run}")


def begun(ci: Any, run: str) -> int:
    """Count how often the ledger records the start of a run."""
    return sum(
        entry["run"] == run
        and entry["action"] == "run_state"
        and entry["facts"]["to"] == "running"
        for entry in ci.entries()
    )


def assert_it_began_once(site: Site, ci: Any, run: str) -> None:
    """Assert that the run has succeeded, and started once."""
    ended = ci.wait_for_end(run, seconds=900)
    assert ended["state"] == "succeeded", ended
    assert ended["waiting"] is None
    assert begun(ci, run) == 1
    assert starts(site) == 1
    assert site.names().count("written") == 1
    assert ci.get("ledger/verify")["intact"]


@on("postgres-gthread", "sqlite-uvicorn", "mariadb-uvicorn")
def test_a_run_waits_for_its_window_and_begins_by_itself(build, pair):
    """It reports the reason and the time; it holds no lock, and owns its database."""
    settings = options(WINDOWS=[window_in(FAR)])
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci = site.client("ci")
    plan = ci.plan()
    assert plan["opening"]["reason"] == "window"
    run = ci.run(plan)
    assert run["state"] == "waiting"
    assert run["waiting"]["reason"] == "window"
    assert run["waiting"]["until"] == plan["opening"]["at"]
    carrier_of(site, run["id"])
    assert not site.database.locks()
    assert starts(site) == 0
    expect_problem(ci.ask_for_run(plan), 409, "active_run")
    assert ci.status()["default"]["active_waiting"]["reason"] == "window"
    told = site.project.manage("migration_route", "show", run["id"]).stdout
    assert "waiting: window" in told
    page = site.person("boss").http.get(f"/_m/runs/{run['id']}/").text
    assert "no window is open" in page
    assert "Start now anyway" in page
    let_its_time_come(site, run["id"])
    assert_it_began_once(site, ci, run["id"])


@on("postgres-gthread", "sqlite-uvicorn")
def test_what_people_have_agreed_to_waits_for_its_window_next(build, pair):
    """The plan shows both; the approval comes first, and starts nothing early."""
    settings = options(APPROVALS={}, WINDOWS=[window_in(FAR)])
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci, boss = site.client("ci"), site.person("boss")
    plan = ci.plan()
    assert plan["opening"]["reason"] == "window"
    assert plan["approval"]["required"] == 1
    run = ci.run(plan)
    assert (run["state"], run["waiting"]["reason"]) == ("awaiting_approval", "approval")
    answer = boss.call("POST", f"runs/{run['id']}/approve", json={"reason": "read it"})
    agreed = expect(answer, 200)
    assert (agreed["state"], agreed["waiting"]["reason"]) == ("waiting", "window")
    assert agreed["waiting"]["until"] == plan["opening"]["at"]
    assert agreed["approval"]["given"] == 1
    carrier_of(site, run["id"])
    assert starts(site) == 0
    let_its_time_come(site, run["id"], APPROVALS={})
    assert_it_began_once(site, ci, run["id"])


@on("postgres-gthread", "sqlite-gthread")
def test_a_window_that_the_settings_have_opened_since_is_seen_when_asked(build, pair):
    """The waiting process has the earlier settings; `resume` starts a new one."""
    settings = options(WINDOWS=[window_in(FAR)])
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci, operator = site.client("ci"), site.client("operator")
    run = ci.run(ci.plan())
    carrier_of(site, run["id"])
    look = {"reason": "the shop is shut"}
    expect(operator.call("POST", f"runs/{run['id']}/resume", json=look), 200)

    def waits_again():
        found = ci.get(f"runs/{run['id']}")
        assert found["state"] == "waiting", found
        return found["waiting"]["until"] == run["waiting"]["until"]

    until(waits_again, seconds=90, what="it has looked, and waits for the same window")
    assert starts(site) == 0
    site.project.set_options(options())
    expect(operator.call("POST", f"runs/{run['id']}/resume", json=look), 200)
    assert_it_began_once(site, ci, run["id"])


@on("postgres-gthread")
def test_a_run_begins_at_its_time(build, pair):
    """Not earlier, and without any request."""
    site = build(pair, {"0002_start": running(STARTED)}, timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan(), at=later(8))
    assert (run["state"], run["waiting"]["reason"]) == ("waiting", "time")
    assert run["at"] == run["waiting"]["until"]
    assert_it_began_once(site, ci, run["id"])
    ended = ci.get(f"runs/{run['id']}")
    assert ended["started_at"] >= run["at"]


@on("postgres-gthread", "sqlite-gthread")
def test_a_killed_process_that_waits_is_replaced_once(build, pair):
    """Nothing was done: it is not lost. The next check starts another process, and only
    one."""
    site = build(pair, {"0002_start": running(STARTED)}, timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan(), at=later())
    assert run["waiting"]["reason"] == "time"
    first = carrier_of(site, run["id"])
    os.kill(first, signal.SIGKILL)
    is_gone(site, first)

    def replaced() -> bool:
        for client in (ci, site.client("reader")):
            shown = client.get(f"runs/{run['id']}")
            assert shown["state"] == "waiting", shown
        return bool(carrier_of(site, run["id"]) != first)

    until(replaced, seconds=90, what="another process waits with it")

    def begins() -> bool:
        let_its_time_come(site, run["id"])  # it may just be writing what it waits for
        return bool(ci.get(f"runs/{run['id']}")["state"] != "waiting")

    until(begins, seconds=90, what="it begins")
    assert_it_began_once(site, ci, run["id"])


@on("postgres-gthread")
def test_a_run_that_waits_is_cancelled_at_once(build, pair):
    """Its process ends by itself, and leaves nothing."""
    site = build(pair, {"0002_start": running(STARTED)}, options=options(), timeout=SLOW)
    ci, operator = site.client("ci"), site.client("operator")
    run = ci.run(ci.plan(), at=later())["id"]
    pid = carrier_of(site, run)
    answer = operator.call("POST", f"runs/{run}/cancel", json={"reason": "no"})
    assert expect(answer, 200)["state"] == "cancelled"
    until(
        lambda: pid not in processes.living_in(site.project.folder),
        seconds=90,
        what="its process has gone",
    )
    assert ci.apply()["state"] == "succeeded"
    assert starts(site) == 1


@on("postgres-uvicorn")
def test_a_person_with_the_right_lets_it_begin_all_the_same(build, pair):
    """The ledger records what was overridden; a token cannot do it."""
    settings = options(WINDOWS=[window_in(FAR)])
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci, boss = site.client("ci"), site.person("boss")
    run = ci.run(ci.plan())["id"]
    carrier_of(site, run)
    body = {"reason": "the shop is shut", "force": True}
    expect_problem(
        site.client("operator").call("POST", f"runs/{run}/resume", json=body),
        403,
        "forbidden",
    )
    expect(boss.call("POST", f"runs/{run}/resume", json=body), 200)
    assert ci.wait_for_end(run)["state"] == "succeeded"
    [entry] = [one for one in ci.entries() if one["action"] == "schedule_overridden"]
    assert entry["actor"]["name"] == "boss"
    assert entry["facts"]["waiting_reason"] == "window"
    assert begun(ci, run) == starts(site) == 1


@on("postgres-gthread")
def test_the_code_of_the_moment_is_what_runs(build, pair):
    """A migration that is deployed while it waits changes the plan: it ends stale."""
    site = build(pair, {"0002_start": running(STARTED)}, options=options(), timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan(), at=later())["id"]
    carrier_of(site, run)
    site.project.add_migrations({"0002_start": running(STARTED + "# mended\n")})
    let_its_time_come(site, run)
    ended = ci.wait_for_end(run, seconds=200)
    assert ended["state"] == "stale", ended
    assert starts(site) == 0


@on("postgres-gthread")
def test_a_window_that_closes_between_two_steps_holds_the_second(build, pair):
    """The current step completes; the next one waits for the next window."""
    site = build(
        pair,
        {
            "0002_wait": running('pass_gate("between")'),
            "0003_sku": column("sku", after="0002_wait"),
        },
        options=options(WINDOWS=[window_in(-60, length=130)]),
        timeout=SLOW,
    )
    ci, boss = site.client("ci"), site.person("boss")
    plan = ci.plan()
    assert plan["opening"] == {"at": None, "reason": "now", "why": "The run can start now."}
    run = ci.run(plan)["id"]
    site.project.await_gate("between")
    until(
        lambda: ci.plan()["opening"]["reason"] == "window",
        seconds=90,
        what="the window has closed",
    )
    site.project.open_gate("between")

    def held() -> Any:
        shown = ci.get(f"runs/{run}")
        assert not shown["ended"], shown
        return shown if shown["state"] == "paused" else None

    shown = until(held, seconds=90, what="it is held")
    assert shown["waiting"]["reason"] == "window"
    assert shown["waiting"]["until"]
    assert [step["state"] for step in shown["steps"]] == ["applied", "not_started"]
    page = boss.http.get(f"/_m/runs/{run}/").text
    assert "Resume now anyway" in page
    body = {"reason": "one more column", "force": True}
    expect(boss.call("POST", f"runs/{run}/resume", json=body), 200)
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.has_column("sku")


@on("postgres-gthread")
def test_who_does_not_wait_is_refused_with_the_next_opening(build, pair):
    """`wait_for_window`, the smallest view, and a launcher that cannot wait."""
    settings = options(WINDOWS=[window_in(FAR)])
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci = site.client("ci")
    problem = expect_problem(
        ci.ask_for_run(ci.plan(), wait_for_window=False), 409, "window_closed"
    )
    assert problem["facts"]["until"] == ci.plan()["opening"]["at"]
    refused = site.project.manage(
        "migration_route", "apply", "--yes", "--no-wait-for-window", check=False
    )
    assert refused.returncode == 5
    assert "may not start now" in refused.stderr
    assert ci.get("runs")["runs"] == []


@on("postgres-gthread")
def test_without_a_worker_a_queued_run_says_that_it_waits_for_one(build, pair):
    """It is not failed; a worker that is killed twice leaves it to the next."""
    settings = options(LAUNCHER="worker")
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.execute("UPDATE migration_route_run SET heartbeat_at = '2026-01-01T00:00:00.0Z'")
    shown = ci.get(f"runs/{run}")
    assert (shown["state"], shown["waiting"]["reason"]) == ("queued", "no_worker")
    assert ci.status()["default"]["active_waiting"]["reason"] == "no_worker"
    page = site.person("boss").http.get("/_m/").text
    assert "no worker has claimed it yet" in page
    alive = site.project.folder / "alive"
    found = worker(site.project, "--max-runs", "1", "--health-file", str(alive))
    assert_it_began_once(site, ci, run)
    assert found.process.wait(90) == 0
    assert alive.exists()


@on("postgres-gthread", "mariadb-gthread")
def test_two_workers_that_are_killed_while_it_waits_begin_it_once(build, pair):
    """A waiting run is in the table only, not in a worker."""
    settings = options(LAUNCHER="worker", WINDOWS=[window_in(FAR)])
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan())
    killed = [worker(site.project), worker(site.project)]
    alive = site.project.folder / "alive"
    one = worker(site.project, "--health-file", str(alive))
    until(alive.exists, seconds=90, what="a worker works")
    for found in (*killed, one):
        found.kill()
    assert ci.get(f"runs/{run['id']}")["state"] == "waiting"
    let_its_time_come(site, run["id"], LAUNCHER="worker")
    again = [worker(site.project), worker(site.project)]
    assert_it_began_once(site, ci, run["id"])
    for found in again:
        found.ask_to_end()
        assert found.process.wait(90) == 0, found.said
    assert sum(f"run {run['id']}" in found.said for found in again) == 1


@on("postgres-gthread")
def test_a_worker_that_is_told_to_end_carries_its_run_to_the_end(build, pair):
    """It claims no other one."""
    site = build(
        pair,
        {"0002_wait": running('pass_gate("middle")')},
        options=options(LAUNCHER="worker"),
        timeout=SLOW,
    )
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    found = worker(site.project)
    site.project.await_gate("middle")
    found.ask_to_end()
    with contextlib.suppress(Exception):
        found.process.wait(1)
    assert found.process.poll() is None
    site.project.open_gate("middle")
    assert found.process.wait(90) == 0, found.said
    assert ci.get(f"runs/{run}")["state"] == "succeeded"


@pytest.mark.slow
@on("postgres-gthread")
def test_a_job_that_carries_one_run_may_be_killed_and_started_again(build, pair):
    """`manage.py migration_route run ID` from a pipeline, while the run waits."""
    settings = options(LAUNCHER="worker")
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan(), at=later())["id"]
    words = ("manage.py", "migration_route", "run", run)
    first = Background(site.project, *words)
    carrier_of(site, run)
    refused = site.project.manage("migration_route", "run", run, check=False)
    assert refused.returncode == 5, refused.stderr
    first.kill()
    second = Background(site.project, *words)
    let_its_time_come(site, run, LAUNCHER="worker")
    assert_it_began_once(site, ci, run)
    assert second.process.wait(90) == 0, second.said
