"""Tests that the API's reports match what a fresh connection reads. Scenarios B1 to B7."""

from __future__ import annotations

import json

from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import (
    RUN,
    WRITE_THREE,
    WRITTEN,
    column,
    migration,
    running,
)
from tests.harness.pairs import on_every_pair
from tests.harness.project import Options


@on_every_pair
def test_b1_success_is_true_under_atomic_requests(build, pair):
    """With ATOMIC_REQUESTS, `succeeded` means that a fresh connection sees everything."""
    site = build(
        pair,
        {
            "0002_sku": column("sku"),
            "0003_write": running(WRITE_THREE, after="0002_sku"),
        },
        options=Options(atomic_requests=True),
    )
    run = site.client("ci").apply()
    assert run["state"] == "succeeded"
    assert site.has_column("sku")
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_sku", "0003_write"]


@on_every_pair
def test_b2_nothing_to_do_is_not_applied(build, pair):
    """A run with nothing pending ends as `noop`, which no applied run does."""
    site = build(pair)
    ci = site.client("ci")
    plan = ci.plan()
    assert plan["direction"] == "none"
    assert plan["steps"] == []
    accepted = expect(ci.ask_for_run(plan), 200, 202)
    run = ci.wait_for_end(accepted["id"])
    assert run["state"] == "noop"
    assert run["steps"] == []
    assert site.applied() == ["0001_initial"]


@on_every_pair
def test_b3_a_failure_says_what_was_applied_and_what_was_not(build, pair):
    """Of four pending the third fails: two are applied, the failing operation is named."""
    first_row = 'Item.objects.using(alias).create(name="half done")'
    fails = 'migrations.RunSQL("INSERT INTO no_such_table VALUES (1)")'
    site = build(
        pair,
        {
            "0002_sku": column("sku"),
            "0003_write": running(WRITE_THREE, after="0002_sku"),
            "0004_breaks": migration(RUN, fails, after="0003_write", body=first_row),
            "0005_size": column("size", after="0004_breaks"),
        },
    )
    ci = site.client("ci")
    run = ci.apply()
    # MariaDB commits each operation separately: the first of 0004 stays.
    rolled_back = site.database.transactional_ddl
    ending = "failed" if rolled_back else "partial"
    assert run["state"] == ending
    assert [(step["name"], step["state"]) for step in run["steps"]] == [
        ("0002_sku", "applied"),
        ("0003_write", "applied"),
        ("0004_breaks", ending),
        ("0005_size", "not_started"),
    ]
    error = run["steps"][2]["error"]
    assert error["operation"] == 1
    assert "no_such_table" in error["message"]
    assert error["type"]
    if pair.vendor == "postgres":
        assert error["sqlstate"] == "42P01"
    assert site.applied() == ["0001_initial", "0002_sku", "0003_write"]
    assert site.has_column("sku")
    assert not site.has_column("size")
    assert site.names() == (WRITTEN if rolled_back else [*WRITTEN, "half done"])
    assert [step["name"] for step in ci.plan()["steps"]] == ["0004_breaks", "0005_size"]


@on_every_pair
def test_b4_two_last_migrations_are_a_refusal_that_kills_nobody(build, pair):
    """Two leaf nodes are a `conflict` that names both, and every web process stays
    alive."""
    site = build(pair, {"0002_left": column("left"), "0002_right": column("right")})
    ci, boss = site.client("ci"), site.person("boss")
    pids = site.server.worker_pids()
    for _ in range(3):
        problem = expect_problem(ci.ask_for_plan(), 409, "conflict")
        assert "0002_left" in json.dumps(problem)
        assert "0002_right" in json.dumps(problem)
    assert boss.http.post("/perform/").status_code == 409
    plan = {"database": "default", "targets": [], "fingerprint": "a-b-c"}
    expect_problem(ci.ask_for_run(plan), 409, "conflict")
    assert site.server.answering_pid() in pids
    assert site.server.worker_pids() == pids
    assert site.applied() == ["0001_initial"]


@on_every_pair
def test_b5_a_migration_that_ends_its_process_ends_no_other(build, pair):
    """`sys.exit`, `os._exit` and KeyboardInterrupt fail their run; the web pids stay."""
    site = build(
        pair,
        {
            "0002_leave": running(
                """
                if alias == "default":
                    sys.exit(1)
                if alias == "dies":
                    os._exit(3)
                raise KeyboardInterrupt
                """
            )
        },
        others=("dies", "interrupts"),
    )
    ci = site.client("ci")
    pids = site.server.worker_pids()
    # MariaDB cannot roll everything back, so the cautious state is accurate there.
    endings = {"failed"} if site.database.transactional_ddl else {"failed", "partial"}
    plans = [ci.plan("shop", database=alias) for alias in site.project.databases]
    runs = [ci.run(plan) for plan in plans]
    for run in runs:
        ended = ci.wait_for_end(run["id"])
        assert ended["state"] in endings, ended
        assert ended["steps"][-1]["name"] == "0002_leave"
        assert ended["steps"][-1]["state"] in endings
        assert ended["error"] or ended["steps"][-1]["error"]
        database = site.project.databases[run["database"]]
        assert database.applied() == ["0001_initial"]
        again = ci.plan("shop", database=run["database"])
        assert [step["name"] for step in again["steps"]] == ["0002_leave"]
    assert site.server.worker_pids() == pids
    assert site.server.answering_pid() in pids


@on_every_pair
def test_b6_what_a_migration_prints_is_in_its_events(build, pair):
    """Three printed lines are there in order, and the output of another request is not."""
    site = build(
        pair,
        {
            "0002_talk": running(
                """
                print("line one")
                pass_gate("talk")
                print("line two", file=sys.stderr)
                print("line three")
                """
            )
        },
    )
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("talk")
    for _ in range(6):
        assert ci.http.get("/shout/").text == "done"
    site.project.open_gate("talk")
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    events = ci.events(run["id"])
    output = [event for event in events if event["kind"] == "output"]
    told = [
        (e["text"], e["facts"]["stream"]) for e in output if e["text"].startswith("line")
    ]
    assert told == [
        ("line one", "stdout"),
        ("line two", "stderr"),
        ("line three", "stdout"),
    ]
    assert "another request" not in json.dumps(events)
    assert "printed by another request" in until(
        site.server.log.read_text, seconds=5, what="the server's own log"
    )


@on_every_pair
def test_b7_secrets_in_output_and_errors_are_masked(build, pair):
    """Passwords and tokens that a migration prints or raises appear nowhere."""
    secrets = [
        "hunter2dsn",
        "hunter2word",
        "hunter2token0123456789",
        "hunter2bearer0123456789",
    ]
    site = build(
        pair,
        {
            "0002_leak": running(
                f"""
                print("connecting to postgres://shop:{secrets[0]}@db.example:5432/shop")
                print("password={secrets[1]} host=db.example")
                print("token: {secrets[2]}")
                print("Authorization: Bearer {secrets[3]}", file=sys.stderr)
                raise RuntimeError("no answer from postgres://shop:{secrets[0]}@db.example/shop")
                """
            )
        },
    )
    ci = site.client("ci")
    run = ci.apply()
    assert run["state"] == "failed"
    assert "no answer from" in json.dumps(run)
    events = ci.events(run["id"])
    assert "connecting to" in json.dumps(events)
    everything = json.dumps([run, events, ci.entries()])
    for secret in secrets:
        assert secret not in everything
    stored = [
        site.rows(f"SELECT * FROM {table}")
        for table in site.database.tables()
        if table.startswith("migration_route")
    ]
    assert "hunter2" not in str(stored)
