"""Tests of webhooks that real servers and processes send."""

from __future__ import annotations

import os
import signal

from tests.harness.migrations import WRITE_THREE, column, running
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options
from tests.harness.receiver import Receiver

WAITS = running(WRITE_THREE + 'pass_gate("written")')
SECRET = "the-secret-of-the-walk"


def told(receiver: Receiver, **more: object) -> Options:
    """Return a project that sends every event to this receiver."""
    webhook = {
        "url": receiver.url,
        "secret": SECRET,
        "insecure": True,
        "events": "*",
        "timeout": "2s",
    }
    return Options(migration_route={"WEBHOOKS": [webhook], **more})


@on_each_once
def test_a_run_over_http_is_told_and_answers_as_ever(build, pair):
    """The receiver fails at first: neither the run nor its client is affected."""
    with Receiver(lambda count: "close" if count == 1 else 200) as receiver:
        site = build(pair, {"0002_sku": column("sku")}, options=told(receiver))
        ci = site.client("ci")
        run = ci.apply()
        assert run["state"] == "succeeded"
        receiver.until(lambda: "run_ended" in receiver.events(run["id"]), "the end")
        assert list(dict.fromkeys(receiver.events(run["id"]))) == [
            "run_requested",
            "run_started",
            "step_started",
            "step_finished",
            "run_ended",
        ]
        assert receiver.received[-1].message["run"]["outcome"] == run["outcome"]
        page = ci.http.get("/_m/metrics").text
        assert 'migration_route_runs{database="default",state="succeeded"' in page
        assert SECRET not in page + str(ci.entries()) + str(ci.events(run["id"]))


@on("postgres-sync", "mariadb-gthread")
def test_the_end_of_a_run_that_was_killed_is_told_by_another(build, pair):
    """After kill -9 of the supervisor, a web worker records the end, and a process that it
    starts sends the webhook. The web worker sends nothing itself."""
    with Receiver() as receiver:
        options = told(receiver, HEARTBEAT_TIMEOUT="1s")
        site = build(pair, {"0002_write": WAITS}, options=options)
        ci = site.client("ci")
        run = ci.run(ci.plan())["id"]
        site.project.await_gate("written")
        receiver.until(lambda: "step_started" in receiver.events(run), "it is under way")
        ((pid,),) = site.rows(
            f"SELECT supervisor_pid FROM migration_route_run WHERE id = '{run}'"
        )
        os.kill(pid, signal.SIGKILL)
        ended = ci.wait_for_end(run)
        assert ended["state"] in {"failed", "partial"}
        receiver.until(lambda: "run_ended" in receiver.events(run), "the end is told")
        told_of = list(dict.fromkeys(receiver.events(run)))
        assert told_of[:3] == ["run_requested", "run_started", "step_started"]
        assert told_of[-1] == "run_ended"
        assert "run_lost" in told_of


@on("sqlite-uvicorn", "postgres-sync")
def test_a_typed_migrate_is_told_after_its_process_has_ended(build, pair):
    with Receiver() as receiver:
        site = build(pair, {"0002_sku": column("sku")}, options=told(receiver))
        site.client("ci").apply()
        site.project.add_migrations({"0003_tag": column("tag", after="0002_sku")})
        site.project.manage("migrate")
        assert site.has_column("tag")
        receiver.until(lambda: "migrate_finished" in receiver.events(), "it is told")
