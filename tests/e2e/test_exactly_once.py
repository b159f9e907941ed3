"""Tests that every migration is executed exactly once, despite concurrent and repeated
requests. Scenarios C1 to C3."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.harness.client import expect, expect_problem
from tests.harness.migrations import WRITE_THREE, WRITTEN, column, running
from tests.harness.pairs import on_every_pair

WRITE_AND_WAIT = running(WRITE_THREE + 'pass_gate("written")')


@on_every_pair
def test_c1_of_twenty_requests_at_once_one_is_carried_out(build, pair):
    """Twenty simultaneous requests create one run; the others receive `active_run` and its
    id."""
    site = build(pair, {"0002_write": WRITE_AND_WAIT}, workers=2)
    ci = site.client("ci")
    plan = ci.plan()
    answers = at_once([site.client("ci") for _ in range(20)], plan)
    run = the_one_run(answers)
    site.project.await_gate("written")
    site.project.open_gate("written")
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write"]


@on_every_pair
def test_c2_an_idempotency_key_names_one_run(build, pair):
    """Sequential or simultaneous, the same key is one run; another body is refused."""
    site = build(
        pair,
        {
            "0002_write": running(WRITE_THREE),
            "0003_sku": column("sku", after="0002_write"),
        },
    )
    ci = site.client("ci")

    first = ci.plan("shop.0002_write")
    key = {"Idempotency-Key": "the-first"}
    run = ci.run(first, headers=key)
    ci.wait_for_end(run["id"])
    assert expect(ci.ask_for_run(first, headers=key), 200, 202)["id"] == run["id"]
    other = {**first, "targets": []}
    expect_problem(ci.ask_for_run(other, headers=key), (409, 422), "idempotency_mismatch")
    assert site.names() == WRITTEN

    second = ci.plan()
    key = {"Idempotency-Key": "the-second"}
    answers = at_once([site.client("ci") for _ in range(6)], second, headers=key)
    ids = {expect(answer, 200, 202)["id"] for answer in answers}
    assert len(ids) == 1
    assert ids != {run["id"]}
    assert ci.wait_for_end(ids.pop())["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write", "0003_sku"]
    assert len(ci.get("runs")["runs"]) == 2


@on_every_pair
def test_c3_two_servers_on_one_database_carry_out_one_run(build, pair):
    """Two servers that are called at the same time execute the migration once."""
    site = build(pair, {"0002_write": WRITE_AND_WAIT}, workers=1)
    site.serve(workers=1)
    plan = site.client("ci").plan()
    callers = [site.client("ci", server=server) for server in site.servers]
    answers = at_once(callers, plan)
    run = the_one_run(answers)
    site.project.await_gate("written")
    site.project.open_gate("written")
    for caller in callers:
        assert caller.wait_for_end(run)["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write"]


def at_once(callers, plan, headers=None):
    """Let all clients request a run of this plan at the same time."""
    start = threading.Barrier(len(callers))

    def ask(caller):
        start.wait(30)
        return caller.ask_for_run(plan, headers=headers)

    with ThreadPoolExecutor(len(callers)) as pool:
        return list(pool.map(ask, callers))


def the_one_run(answers):
    """Return the id of the accepted run, and check that all other responses name it."""
    accepted = {
        answer.json()["id"] for answer in answers if answer.status_code in (200, 202)
    }
    assert len(accepted) == 1, [(answer.status_code, answer.text) for answer in answers]
    run = accepted.pop()
    for answer in answers:
        if answer.status_code not in (200, 202):
            assert expect_problem(answer, 409, "active_run")["run"] == run
    return run
