"""Tests of the checks of the database before a run. Scenarios D8 and D9, rows l and o, and
C5."""

from __future__ import annotations

import contextlib

import psycopg

from tests.harness.client import expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import column, running
from tests.harness.pairs import on, on_each_once

INDEXES = """\
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "{after}")]
    operations = [
        AddIndexConcurrently("item", models.Index(fields=["name"], name="item_name_cic")),
    ]
"""
MAKES_INDEX = INDEXES.format(after="0001_initial")
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_name_cic'::regclass"


def leave_invalid(site, name="item_name_cic", table="shop_item") -> None:
    """Interrupt a concurrent build, as a killed deploy does."""
    with site.database.connect() as holder, site.database.connect() as builder:
        holder.execute("BEGIN")
        holder.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        builder.execute("SET statement_timeout = '500ms'")
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            builder.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} (name)")
    [(is_valid,)] = site.rows(
        f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{name}'::regclass"
    )
    assert is_valid is False


def finding(plan, code):
    """Return the one finding with this code."""
    [found] = [found for found in plan["findings"] if found["code"] == code]
    return found


@on("postgres-sync")
def test_d8_an_invalid_index_is_found_and_rebuilt_on_request(build, pair):
    """It is named before the run, refuses it, and on request is dropped and rebuilt."""
    site = build(pair, {"0002_index": MAKES_INDEX})
    leave_invalid(site)
    ci = site.client("ci")
    plan = ci.plan()
    found = finding(plan, "invalid_index")
    assert found["severity"] == "blocking"
    assert found["step"] == "shop.0002_index"
    assert "item_name_cic" in found["message"]
    problem = expect_problem(ci.ask_for_run(plan), 409, "refused")
    assert problem["facts"]["findings"] == ["invalid_index"]
    assert site.applied() == ["0001_initial"]

    run = ci.wait_for_end(ci.run(plan, rebuild_invalid_indexes=True)["id"])
    assert run["state"] == "succeeded"
    assert site.rows(IS_VALID) == [(True,)]
    (dropped,) = [e for e in ci.events(run["id"]) if e["kind"] == "index_dropped"]
    assert dropped["text"] == "DROP INDEX CONCURRENTLY public.item_name_cic"
    actions = [entry["action"] for entry in ci.entries()]
    assert "index_dropped" in actions
    assert ci.get("ledger/verify")["intact"]
    assert "invalid_index" not in [found["code"] for found in ci.plan()["findings"]]


@on("postgres-sync")
def test_an_invalid_index_that_no_step_makes_is_not_dropped(build, pair):
    """It refuses a plan that changes its table, and is only a warning otherwise."""
    site = build(pair, {"0002_sku": column("sku")})
    leave_invalid(site, "left_behind")
    ci = site.client("ci")
    plan = ci.plan()
    assert finding(plan, "invalid_index")["severity"] == "blocking"
    answer = ci.ask_for_run(plan, rebuild_invalid_indexes=True)
    problem = expect_problem(answer, 409, "refused")
    assert "DROP INDEX CONCURRENTLY public.left_behind" in problem["hint"]
    site.execute("DROP INDEX left_behind")
    assert ci.apply()["state"] == "succeeded"

    leave_invalid(site, "elsewhere", "auth_group")
    site.project.add_migrations({"0003_more": column("more", after="0002_sku")})
    assert finding(ci.plan(), "invalid_index")["severity"] == "warning"
    assert ci.apply()["state"] == "succeeded"


@on("postgres-sync")
def test_the_command_and_the_page_can_ask_for_it(build, pair):
    """By `--rebuild-invalid-indexes`, and by a checkbox."""
    site = build(pair, {"0002_index": MAKES_INDEX})
    leave_invalid(site)
    page = site.person("boss").http.get("/_m/plan/").text
    assert 'name="rebuild_invalid_indexes"' in page
    manage = site.project.manage
    answer = manage("migration_route", "apply", "--yes", check=False)
    assert answer.returncode == 5
    manage("migration_route", "apply", "--yes", "--rebuild-invalid-indexes")
    assert site.rows(IS_VALID) == [(True,)]
    assert 'name="rebuild_invalid_indexes"' not in site.person("boss").http.get("/_m/").text


@on("postgres-sync")
def test_d9_a_sequence_that_is_behind_is_found(build, pair):
    """The recorder could not insert a row: the run is refused, and the hint fixes it."""
    site = build(pair, {"0002_sku": column("sku")})
    site.execute("SELECT setval(pg_get_serial_sequence('django_migrations', 'id'), 1)")
    ci = site.client("ci")
    plan = ci.plan()
    found = finding(plan, "recorder_sequence_behind")
    assert found["severity"] == "blocking"
    problem = expect_problem(ci.ask_for_run(plan), 409, "refused")
    assert problem["facts"]["findings"] == ["recorder_sequence_behind"]
    assert not site.has_column("sku")
    statement = found["hint"][found["hint"].index("SELECT") :]
    site.execute(statement)
    assert ci.apply()["state"] == "succeeded"
    codes = [found["code"] for found in ci.plan()["findings"]]
    assert "recorder_sequence_behind" not in codes


@on_each_once
def test_a_database_in_order_has_nothing_of_this(build, pair):
    """Where no such objects exist, no needless query runs."""
    site = build(pair, {"0002_sku": column("sku")})
    ci = site.client("ci")
    codes = {found["code"] for found in ci.plan()["findings"]}
    assert not codes & {"invalid_index", "recorder_sequence_behind"}
    assert ci.wait_for_end(ci.run(ci.plan(), rebuild_invalid_indexes=True)["id"])[
        "state"
    ] == ("succeeded")


@on("postgres-sync")
def test_c5_a_waiter_polls_while_an_index_is_made_concurrently(build, pair):
    """The second process holds no snapshot while it waits: no deadlock, a valid index."""
    site = build(
        pair,
        {
            "0002_wait": running('pass_gate("before")'),
            "0003_index": INDEXES.format(after="0002_wait"),
        },
    )
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.project.await_gate("before")
    # A transaction that is older than the build blocks it for a while.
    with site.database.connect() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM shop_item")
        with waiting_runner(site) as waiter:
            site.project.open_gate("before")
            until(
                lambda: site.rows("SELECT pid FROM pg_stat_progress_create_index"),
                seconds=40,
                what="the index is being made",
            )
            assert waiter.poll() is None
            holder.execute("COMMIT")
            assert ci.wait_for_end(run)["state"] == "succeeded"
            _, err = waiter.communicate(timeout=60)
    assert waiter.returncode == 0, err
    assert "deadlock" not in err
    assert site.rows(IS_VALID) == [(True,)]
    assert site.applied() == ["0001_initial", "0002_wait", "0003_index"]


@contextlib.contextmanager
def waiting_runner(site):
    """Let a second process poll for the lock of the first one."""
    from tests.e2e.test_guarded_migrate import guarded, typed

    site.project.set_options(guarded("120s"))
    with typed(site.project) as process:
        assert "Waiting" in process.stderr.readline()
        yield process
