"""Tests of a ledger and a migration in the same SQLite file."""

from __future__ import annotations

from tests.harness.client import expect, expect_problem
from tests.harness.migrations import RUN, migration, running
from tests.harness.pairs import on

READ_THEN_WRITE = """\
from django.db import transaction
pass_gate("begun")
for number in range(150):
    with transaction.atomic(using=alias):
        assert not Item.objects.using(alias).filter(name=f"row {number}").exists()
        print("read", number)
        Item.objects.using(alias).create(name=f"row {number}")
"""


@on("sqlite-sync", "sqlite-gthread", "sqlite-uvicorn")
def test_a_migration_that_reads_and_then_writes_is_not_disturbed(build, pair):
    """Each of many transactions reads before it writes and prints that, while a denial and
    a refusal arrive: none finds the file locked, and everything is recorded."""
    source = migration(RUN, body=READ_THEN_WRITE, atomic=False)
    site = build(pair, {"0002_read": source})
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("begun")
    expect_problem(site.client("reader").ask_for_run(ci.plan()), 403, "forbidden")
    expect_problem(ci.ask_for_run(ci.plan()), 409, "active_run")
    site.project.open_gate("begun")
    ended = ci.wait_for_end(run["id"])
    assert ended["state"] == "succeeded", ended
    printed = ci.printed(run["id"])
    assert [line for line in printed if line.startswith("read ")] == [
        f"read {number}" for number in range(150)
    ]
    assert {"denied", "refused"} <= {entry["action"] for entry in ci.entries()}
    assert expect(ci.call("GET", "ledger/verify"), 200)["intact"]


@on("sqlite-gthread")
def test_a_cancel_reaches_a_run_that_holds_the_file(build, pair):
    """A cancel during a step shows at once, stops the run before its next step, and is on
    the ledger with its requester."""
    site = build(
        pair,
        {
            "0002_first": running('print("one")\npass_gate("first")'),
            "0003_second": running('print("two")', after="0002_first"),
        },
    )
    operator = site.client("operator")
    run = operator.run(operator.plan())
    site.project.await_gate("first")
    asked = operator.call("POST", f"runs/{run['id']}/cancel", json={"reason": "too slow"})
    assert expect(asked, 200)["state"] == "cancelling"
    assert operator.get(f"runs/{run['id']}")["state"] == "cancelling"
    site.project.open_gate("first")
    ended = operator.wait_for_end(run["id"])
    assert ended["state"] == "cancelled"
    assert [step["state"] for step in ended["steps"]] == ["applied", "not_started"]
    asked_for = [e for e in operator.entries() if e["action"] == "cancel_requested"]
    assert [entry["actor"]["name"] for entry in asked_for] == ["operator"]
    assert asked_for[0]["facts"]["reason"] == "too slow"
