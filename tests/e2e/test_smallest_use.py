"""Tests of the view `perform_migration`."""

from __future__ import annotations

import json

from tests.harness.migrations import RUN, column, migration, running
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options


@on_each_once
def test_the_view_applies_what_is_pending_and_then_has_nothing_to_do(build, pair):
    """Under ATOMIC_REQUESTS too: 200 `succeeded`, then 200 `noop`, and the database
    agrees."""
    site = build(pair, {"0002_sku": column("sku")}, options=Options(atomic_requests=True))
    boss = site.person("boss")
    assert perform(boss, 200)["state"] == "succeeded"
    assert site.has_column("sku")
    assert site.applied() == ["0001_initial", "0002_sku"]
    assert perform(boss, 200)["state"] == "noop"


@on("sqlite-uvicorn")
def test_the_view_is_shut_to_whoever_may_not_apply(build, pair):
    """Reading methods, anonymous clients, users and staff without permission apply
    nothing."""
    site = build(pair, {"0002_sku": column("sku")})
    boss, visitor = site.person("boss"), site.person("visitor", at="/accounts/login/")
    assert boss.http.get("/perform/").status_code == 405
    assert boss.http.head("/perform/").status_code == 405
    for caller in (
        site.client(None),
        visitor,
        site.person("helper"),
        site.client("reader"),
    ):
        assert caller.http.post("/perform/").status_code in (401, 403)
    assert site.applied() == ["0001_initial"]


@on("postgres-sync")
def test_the_view_says_500_when_the_migration_fails(build, pair):
    """A failing migration is a 500 whose body says what failed, and no process ends."""
    site = build(
        pair, {"0002_breaks": migration(RUN, body='raise ValueError("broken goods")')}
    )
    boss = site.person("boss")
    pids = site.server.worker_pids()
    assert "broken goods" in json.dumps(perform(boss, 500))
    assert site.applied() == ["0001_initial"]
    assert site.server.worker_pids() == pids


@on("mariadb-gthread")
def test_the_view_refuses_while_a_run_is_active(build, pair):
    """While a run owns the database the view returns 409, and the run is not affected."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')})
    ci, boss = site.client("ci"), site.person("boss")
    run = ci.run(ci.plan())
    site.project.await_gate("wait")
    answer = boss.http.post("/perform/")
    assert answer.status_code == 409, answer.text
    assert answer.json()["code"] == "active_run"
    site.project.open_gate("wait")
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.applied() == ["0001_initial", "0002_wait"]


def perform(caller, status):
    """POST to the view and return the ended run.

    On a busy machine the run may take longer than the server lets a request wait: then the
    response is 202 and the run is polled until its end.
    """
    answer = caller.http.post("/perform/")
    if answer.status_code == 202:
        return caller.wait_for_end(answer.json()["id"])
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text
    return answer.json()
