"""Tests that a health signal pauses a run, which continues by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.test_gentleness import a_transaction
from tests.e2e.test_preflight import leave_invalid
from tests.e2e.test_windows import carrier_of, let_its_time_come
from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import column, running
from tests.harness.pairs import on
from tests.harness.project import Options

QUICK = {"check_interval": "1s", "long_transaction": "1s"}


def watchful(*, freezes: tuple[dict[str, str], ...] = (), **health: object) -> Options:
    """Check every second, and report a transaction after one second."""
    return Options(
        migration_route={"HEALTH": {**QUICK, **health}, "FREEZES": list(freezes)}
    )


def held(ci: Any, run: str, name: str) -> Any:
    """Return the run once this signal pauses it."""

    def look() -> Any:
        found = ci.get(f"runs/{run}")
        assert not found["ended"], found
        waiting = found["waiting"] or {"signals": []}
        names = [one["name"] for one in waiting["signals"] if one["state"] == "stop"]
        return found if name in names else None

    return until(look, seconds=40, what=f"{name} holds the run")


def stops(health: Any) -> list[str]:
    """Return the names of the signals that stop a run."""
    return [one["name"] for one in health["signals"] if one["state"] == "stop"]


def await_stop(ci: Any, name: str) -> Any:
    """Return `GET health` once this signal stops runs."""

    def look() -> Any:
        found = ci.get("health")
        return found if name in stops(found) else None

    return until(look, seconds=30, what=f"{name} stops")


def health_events(ci: Any, run: str) -> list[Any]:
    """Return the events about signals."""
    return [event for event in ci.events(run) if event["kind"] == "health"]


@on("postgres-gthread", "mariadb-sync")
def test_a_long_transaction_holds_a_run_until_it_is_over(build, pair):
    """No step starts meanwhile; the run names the transaction, and continues by itself."""
    site = build(pair, {"0002_sku": column("sku")}, options=watchful())
    ci = site.client("ci")
    assert ci.get("health")["verdict"] == "go"
    with a_transaction(site) as pid:
        found = await_stop(ci, "long_transaction")
        assert found["verdict"] == "pause"
        run = ci.run(ci.plan())["id"]
        shown = held(ci, run, "long_transaction")
        assert shown["state"] == "paused"
        assert shown["waiting"]["reason"] == "health"
        assert shown["waiting"]["until"] > shown["created_at"]
        assert shown["waiting"]["gives_up"] > shown["waiting"]["until"]
        [told] = shown["waiting"]["signals"]
        assert f"pid {pid} " in told["reason"]
        assert [one["pid"] for one in told["facts"]["sessions"]] == [pid]
        assert not site.has_column("sku")
        assert shown["steps"][0]["state"] == "not_started"
        page = site.person("boss").http.get(f"/_m/runs/{run}/").text
        assert f"pid {pid} " in page
        assert "Check now" in page
        plan_page = site.person("boss").http.get("/_m/plan/").text
        assert f"pid {pid} " in plan_page
        assert "A run would wait before its first step" in plan_page
        until(  # it does not fail: it checks again
            lambda: ci.get(f"runs/{run}")["waiting"]["until"] > shown["waiting"]["until"],
            seconds=20,
            what="it has looked again",
        )
    ended = ci.wait_for_end(run)
    assert ended["state"] == "succeeded", ended
    assert ended["waiting"] is None
    assert site.has_column("sku")
    hold, go = health_events(ci, run)
    assert hold["facts"]["verdict"] == "pause"
    assert go["facts"]["verdict"] == "go"
    states = [
        (entry["facts"]["to"], entry["facts"]["waiting"])
        for entry in ci.entries()
        if entry["action"] == "run_state"
    ]
    assert states == [
        ("running", ""),
        ("paused", "health"),
        ("running", ""),
        ("succeeded", ""),
    ]
    assert ci.get("ledger/verify")["intact"]


@on("postgres-sync")
def test_a_transaction_elsewhere_holds_nobody(build, pair):
    """Only sessions on the tables of the step count, not readers of other tables."""
    site = build(pair, {"0002_sku": column("sku")}, options=watchful())
    ci = site.client("ci")
    with site.database.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM auth_group")
        until(
            lambda: site.rows(
                "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' "
                "AND datname = current_database() AND now() - xact_start > '2 s'"
            ),
            seconds=20,
            what="the transaction is old",
        )
        assert ci.apply()["state"] == "succeeded"


def in_a_freeze(seconds: float) -> dict[str, str]:
    """Return a freeze that ends in that many seconds."""
    now = datetime.now(UTC)
    return {
        "start": (now - timedelta(hours=1)).isoformat(),
        "end": (now + timedelta(seconds=seconds)).isoformat(),
        "reason": "The sale.",
    }


@on("postgres-uvicorn", "sqlite-sync")
def test_a_run_that_is_asked_for_in_a_freeze_begins_when_it_ends(build, pair):
    """It is accepted, waits with the reason and the end of the freeze, and is then
    executed."""
    options = watchful(freezes=(in_a_freeze(3600),))
    site = build(pair, {"0002_sku": column("sku")}, options=options)
    ci = site.client("ci")
    run = ci.run(ci.plan())
    assert (run["state"], run["waiting"]["reason"]) == ("waiting", "freeze")
    assert "The sale." in run["waiting"]["why"]
    assert run["waiting"]["until"]
    assert not site.has_column("sku")
    command = site.project.manage("migration_route", "health", check=False)
    assert command.returncode == 5
    assert "The sale." in command.stdout
    carrier_of(site, run["id"])  # it has read the settings with the freeze
    let_its_time_come(site, run["id"], changed=watchful())
    assert ci.wait_for_end(run["id"], seconds=120)["state"] == "succeeded"
    assert site.has_column("sku")
    assert site.project.manage("migration_route", "health").returncode == 0


@on("postgres-sync")
def test_an_invalid_index_that_comes_up_between_two_steps_holds_the_second(build, pair):
    """The table was in order when the plan was read, and no longer is."""
    site = build(
        pair,
        {
            "0002_wait": running('pass_gate("between")'),
            "0003_sku": column("sku", after="0002_wait"),
        },
        options=watchful(),
    )
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.project.await_gate("between")
    leave_invalid(site, "left_behind")
    site.project.open_gate("between")
    shown = held(ci, run, "invalid_index")
    assert [step["state"] for step in shown["steps"]] == ["applied", "not_started"]
    assert "DROP INDEX CONCURRENTLY public.left_behind" in str(shown["waiting"])
    site.execute("DROP INDEX left_behind")
    assert ci.wait_for_end(run)["state"] == "succeeded"


@on("postgres-sync")
def test_a_sequence_that_falls_behind_holds_the_next_step(build, pair):
    """The recorder could not insert a row: no step starts that could not be recorded."""
    site = build(
        pair,
        {
            "0002_wait": running('pass_gate("between")'),
            "0003_sku": column("sku", after="0002_wait"),
        },
        options=watchful(),
    )
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.project.await_gate("between")
    # A row was restored with an id past the sequence: the current step still gets a free
    # one, the next step would not.
    sequence = "pg_get_serial_sequence('django_migrations', 'id')"
    site.execute(
        "INSERT INTO django_migrations (id, app, name, applied) "
        "SELECT last_value + 2, 'restored', '0001_initial', now() "
        "FROM django_migrations_id_seq"
    )
    site.project.open_gate("between")
    shown = held(ci, run, "recorder_sequence")
    assert [step["state"] for step in shown["steps"]] == ["applied", "not_started"]
    [(last,)] = site.rows("SELECT max(id) FROM django_migrations")
    site.execute(f"SELECT setval({sequence}, {last})")
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.has_column("sku")


@on("postgres-sync")
def test_a_person_may_look_again_hold_cancel_and_go_on_in_spite_of_it(build, pair):
    """The right `force` overrides the signal, which is recorded on the ledger; a machine
    token never has it. `resume` only checks again."""
    site = build(pair, {"0002_sku": column("sku")}, options=watchful(check_interval="60s"))
    ci, operator, boss = site.client("ci"), site.client("operator"), site.person("boss")
    with a_transaction(site):
        await_stop(ci, "long_transaction")
        run = ci.run(ci.plan())["id"]
        first = held(ci, run, "long_transaction")
        asked = operator.call("POST", f"runs/{run}/resume", json={"force": True})
        expect_problem(asked, 403, "forbidden")
        expect(operator.call("POST", f"runs/{run}/resume", json={}), 200)
        again = until(
            lambda: (
                (found := ci.get(f"runs/{run}"))["state"] == "paused"
                and found["waiting"]["until"] > first["waiting"]["until"]
                and found
            ),
            seconds=20,
            what="it has looked at once, and is held again",
        )
        assert again["waiting"]["reason"] == "health"
        # A user's own pause takes precedence, and returns to the signal when resumed.
        expect(operator.call("POST", f"runs/{run}/pause", json={"reason": "mine"}), 200)
        until(
            lambda: ci.get(f"runs/{run}")["waiting"]["reason"] == "paused",
            seconds=20,
            what="a person holds it",
        )
        expect(operator.call("POST", f"runs/{run}/resume", json={}), 200)
        held(ci, run, "long_transaction")
        body = {"force": True, "reason": "he is on holiday"}
        expect(boss.call("POST", f"runs/{run}/resume", json=body), 200)
        # The run proceeds to the lock itself, where it waits as usual.
        until(
            lambda: (ci.get(f"runs/{run}")["waiting"] or {}).get("reason") == "blocked",
            seconds=30,
            what="it waits for the lock, in spite of the signal",
        )
        expect(operator.call("POST", f"runs/{run}/cancel", json={}), 200)
        assert ci.wait_for_end(run)["state"] == "cancelled"
    [entry] = [e for e in ci.entries() if e["action"] == "health_overridden"]
    assert entry["actor"]["name"] == "boss"
    assert entry["facts"]["reason"] == "he is on holiday"
    assert [one["name"] for one in entry["facts"]["signals"]] == ["long_transaction"]
    assert not site.has_column("sku")
    assert ci.apply()["state"] == "succeeded"


@on("postgres-sync")
def test_a_run_that_is_held_can_be_cancelled_and_gives_up_in_time(build, pair):
    """When cancelled, no step has started; after the maximum wait it has failed, and says
    why."""
    site = build(pair, {"0002_sku": column("sku")}, options=watchful(max_wait="4s"))
    ci, operator = site.client("ci"), site.client("operator")
    with a_transaction(site):
        await_stop(ci, "long_transaction")
        run = ci.run(ci.plan())["id"]
        held(ci, run, "long_transaction")
        expect(operator.call("POST", f"runs/{run}/cancel", json={}), 200)
        ended = ci.wait_for_end(run)
        assert (ended["state"], ended["outcome"]) == ("cancelled", "cancelled"), ended
        ended = ci.apply()
        assert (ended["state"], ended["outcome"]) == ("failed", "health"), ended
        assert ended["error"]["type"] == "NotAGoodMoment"
        assert "pid " in ended["error"]["message"]
        assert ended["steps"][0]["state"] == "not_started"
    assert not site.has_column("sku")
    assert ci.apply()["state"] == "succeeded"


@on("postgres-sync")
def test_a_run_that_is_killed_while_it_is_held_ends_true(build, pair):
    """The next check finds that nothing was done, and the database is free."""
    site = build(pair, {"0002_sku": column("sku")}, options=watchful())
    ci = site.client("ci")
    with a_transaction(site):
        await_stop(ci, "long_transaction")
        run = ci.run(ci.plan())["id"]
        held(ci, run, "long_transaction")
        [(pid,)] = site.rows(
            f"SELECT supervisor_pid FROM migration_route_run WHERE id = '{run}'"
        )
        os.kill(pid, signal.SIGKILL)
        ended = ci.wait_for_end(run)
    assert (ended["state"], ended["outcome"]) == ("failed", "interrupted"), ended
    assert ended["waiting"] is None
    assert not site.has_column("sku")
    assert ci.apply()["state"] == "succeeded"


@on("mariadb-gthread")
def test_somebody_who_waits_for_metadata_holds_a_run(build, pair):
    """The DDL of the run would queue behind the one that already waits."""
    options = watchful(lock_queue="1s", ignore=["long_transaction"])
    site = build(pair, {"0002_sku": column("sku")}, options=options)
    ci = site.client("ci")
    with contextlib.ExitStack() as stack:
        waiter = stack.enter_context(site.database.connect())
        with a_transaction(site):

            def define() -> None:
                with waiter.cursor() as cursor:
                    cursor.execute("ALTER TABLE shop_item ADD COLUMN other INT")

            thread = threading.Thread(target=define)
            thread.start()
            found = await_stop(ci, "lock_queue")
            assert "long_transaction" in found["ignored"]
            run = ci.run(ci.plan())["id"]
            held(ci, run, "lock_queue")
        thread.join(20)
        assert ci.wait_for_end(run)["state"] == "succeeded"
    assert {"other", "sku"} <= site.database.columns("shop_item")


@on("mariadb-gthread")
def test_a_dump_of_mariadb_holds_a_run(build, pair):
    """A real dump with a slow reader is recognized by the comment in its query. It uses a
    snapshot: a dump that locks the tables would also block writes to the ledger."""
    tool = shutil.which("mariadb-dump") or shutil.which("mysqldump")
    if tool is None:
        pytest.skip("there is no mariadb-dump on this machine")
    options = watchful(ignore=["long_transaction"])
    site = build(pair, {"0002_sku": column("sku")}, options=options)
    rows = "SELECT REPEAT('x', 90) FROM seq_1_to_100000"
    site.execute(f"INSERT INTO shop_item (name) {rows}")
    ci, address = site.client("ci"), site.database.address
    command = [tool, "--no-defaults", "--protocol=tcp", "--single-transaction"]
    command += ["-h", address.host, "-P", str(address.port), "-u", address.user]
    command += [site.database.name]
    password = {**os.environ, "MYSQL_PWD": address.password}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=password) as dump:
        found = await_stop(ci, "dump")
        assert "dump" in stops(found)
        run = ci.run(ci.plan())["id"]
        shown = held(ci, run, "dump")
        assert shown["steps"][0]["state"] == "not_started"
        words, _ = dump.communicate(timeout=60)
    assert dump.returncode == 0
    assert b"INSERT INTO `shop_item`" in words
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.has_column("sku")


@on("postgres-sync")
def test_without_the_gate_nobody_looks(build, pair):
    """`HEALTH = None` disables the checks; the run waits for the lock as usual."""
    options = Options(migration_route={"HEALTH": None})
    site = build(pair, {"0002_sku": column("sku")}, options=options)
    ci = site.client("ci")
    assert [one["name"] for one in ci.get("health")["signals"]] == ["freeze"]
    assert ci.apply()["state"] == "succeeded"


@pytest.mark.parametrize("query", [{"database": "nowhere"}, {"nonsense": "1"}])
@on("sqlite-gthread")
def test_a_bad_question_is_answered_as_anywhere(build, pair, query):
    """A client without the right to read plans gets no health information."""
    site = build(pair, {"0002_sku": column("sku")})
    answer = site.client("planner").call("GET", "health", params=query)
    assert answer.status_code in {400, 404}
    assert site.client("planner").get("health")["verdict"] == "go"
    expect_problem(site.client("reader").call("GET", "health"), 403, "forbidden")
    expect_problem(site.client(None).call("GET", "health"), 401, "unauthenticated")
