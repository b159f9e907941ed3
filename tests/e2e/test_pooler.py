"""Tests of runs behind a transaction pooler. Scenario C6."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from tests.e2e.test_exactly_once import at_once, the_one_run
from tests.harness import databases
from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import WRITE_THREE, WRITTEN, column, running
from tests.harness.pairs import on
from tests.harness.pooler import pooler
from tests.harness.project import Options

WRITE_AND_WAIT = running(WRITE_THREE + 'pass_gate("written")')


@pytest.fixture
def pooled(build, tmp_path):
    """Return a builder of sites whose `default` goes through PgBouncer; with `direct`, the
    alias `straight` bypasses it."""
    with contextlib.ExitStack() as leftovers:

        def make(pair, migrations, *, direct=True, through_it_as_well=False, **words):
            site = build(pair, migrations, serve=False)
            straight = site.database
            through = leftovers.enter_context(through_a_pooler(straight, tmp_path))
            project = site.project
            project.databases = {"default": through}
            way = through if through_it_as_well else straight
            route = (
                {"DATABASES": {"default": {"direct_alias": "straight"}}} if direct else {}
            )
            more = {"straight": way.settings()} if direct else {}
            project.set_options(
                Options(settings={"DATABASES": more}, migration_route=route)
            )
            site.serve(**words)
            return site

        yield make


@on("postgres-sync")
def test_c6_a_pooler_of_transactions_is_refused(pooled, pair):
    """The refusal names the pooler before anything is locked, and nothing is applied."""
    site = pooled(pair, {"0002_sku": column("sku")}, direct=False)
    ci = site.client("ci")
    assert ci.status()["default"]["pending_migrations"] == ["shop.0002_sku"]
    problem = expect_problem(ci.ask_for_run(ci.plan()), 409, "pooler_detected")
    assert '["direct_alias"]' in problem["hint"]
    assert site.applied() == ["0001_initial"]
    assert advisory_locks(site) == 0
    answer = site.project.manage("migration_route", "apply", "--yes", check=False)
    assert answer.returncode == 5
    assert "pooler" in answer.stderr


@on("postgres-sync")
def test_c6_a_direct_way_that_is_none_is_refused(pooled, pair):
    """The refusal names a direct alias that goes through the pooler as well."""
    site = pooled(pair, {"0002_sku": column("sku")}, through_it_as_well=True)
    ci = site.client("ci")
    problem = expect_problem(ci.ask_for_run(ci.plan()), 409, "pooler_detected")
    assert "'straight'" in problem["detail"]
    assert site.applied() == ["0001_initial"]


@on("postgres-sync", "postgres-uvicorn")
def test_c6_past_the_pooler_a_run_is_carried_out_once(pooled, pair):
    """With a direct alias, twenty requests create one run, and no lock remains."""
    site = pooled(pair, {"0002_write": WRITE_AND_WAIT}, workers=2)
    ci = site.client("ci")
    assert set(ci.status()) == {"default"}
    answers = at_once([site.client("ci") for _ in range(20)], ci.plan())
    run = the_one_run(answers)
    site.project.await_gate("written")
    assert advisory_locks(site) == 2
    site.project.open_gate("written")
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write"]
    until(lambda: advisory_locks(site) == 0, seconds=1, what="no lock stays behind")
    assert ci.get("ledger/verify")["intact"]


@on("postgres-sync")
def test_the_direct_way_is_no_database_of_its_own(pooled, pair):
    """It has no plan, no run and no pending migrations; its name leads to the right one."""
    site = pooled(pair, {"0002_sku": column("sku")})
    ci = site.client("ci")
    problem = expect_problem(ci.ask_for_plan(database="straight"), 404, "unknown_database")
    assert "'default'" in problem["hint"]
    codes = [finding["code"] for finding in ci.plan()["findings"]]
    assert "other_database" not in codes
    assert ci.apply()["state"] == "succeeded"
    assert expect(ci.call("GET", "ready"), 200) == {"ready": True}


def advisory_locks(site) -> int:
    """Count the advisory locks in the site's database."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
    query += f"(SELECT oid FROM pg_database WHERE datname = '{site.database.name}')"
    [(count,)] = site.rows(query)
    return int(count)


@on("postgres-sync")
def test_a_ledger_behind_a_pooler_takes_every_line(build, pair, tmp_path):
    """An installed ledger takes no locks: it may stay behind the pooler."""
    site = build(
        pair,
        {"0002_sku": column("sku"), "0003_more": column("more", after="0002_sku")},
        others=("book",),
        options=Options(migration_route={"LEDGER_DATABASE": "book"}),
    )
    assert site.client("ci").apply("shop.0002_sku")["state"] == "succeeded"
    straight = site.project.databases["book"]
    with through_a_pooler(straight, tmp_path, size=2, turns=True) as through:
        site.project.databases["book"] = through
        site.project.set_options(site.project.options)
        server = site.serve()
        ci = site.client("ci", server=server)
        run = ci.apply()
        assert run["state"] == "succeeded"
        assert ci.events(run["id"])[-1]["text"] == "succeeded"
        assert ci.get("ledger/verify")["intact"]
        server.stop()


@contextlib.contextmanager
def through_a_pooler(database, folder, **words):
    """Return the database through PgBouncer, or skip where there is none."""
    with contextlib.ExitStack() as leftovers:
        try:
            yield leftovers.enter_context(pooler(database, folder, **words))
        except databases.NotHere as reason:
            pytest.skip(str(reason))


@on("postgres-sync")
def test_a_typed_migrate_behind_a_pooler_warns_and_goes_on(pooled, pair):
    """Without a direct alias it takes no lock, says so, and migrates as usual."""
    site = pooled(pair, {"0002_sku": column("sku")}, direct=False)
    answer = site.project.manage("migrate")
    assert "takes no lock" in answer.stderr
    assert '["direct_alias"]' in answer.stderr
    assert site.applied() == ["0001_initial", "0002_sku"]


@on("postgres-sync")
def test_a_typed_migrate_goes_past_the_pooler_for_its_lock(pooled, pair):
    """With a direct alias it waits for a run as usual, by either of the two aliases."""
    site = pooled(pair, {"0002_write": WRITE_AND_WAIT})
    options = site.project.options
    route = {**options.migration_route, "GUARD_MIGRATE_TIMEOUT": "1s"}
    site.project.set_options(replace(options, migration_route=route))
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.project.await_gate("written")
    for alias in ("default", "straight"):
        answer = site.project.manage("migrate", "--database", alias, check=False)
        assert answer.returncode == 1
        assert run in answer.stderr
    site.project.open_gate("written")
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.names() == WRITTEN
    answer = site.project.manage("migrate")
    assert answer.stderr == ""
    assert advisory_locks(site) == 0
