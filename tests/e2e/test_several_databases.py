"""Tests of projects with several databases. Scenario F8, and routers."""

from __future__ import annotations

from tests.harness.client import expect_problem
from tests.harness.migrations import column, running
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options


@on_each_once
def test_f8_a_failure_on_the_second_database_leaves_the_first_applied(build, pair):
    """Status lists both, each has its own plan, and each run reports its own result."""
    fails = 'if alias == "other":\n    raise ValueError("not here")'
    site = build(pair, {"0002_write": running(fails)}, others=("other",))
    ci = site.client("ci")
    status = ci.status()
    assert set(status) == {"default", "other"}
    assert "shop.0002_write" in status["default"]["pending_migrations"]
    assert "shop.0001_initial" in status["other"]["pending_migrations"]
    plans = {alias: ci.plan("shop", database=alias) for alias in status}
    assert [step["name"] for step in plans["default"]["steps"]] == ["0002_write"]
    assert [step["name"] for step in plans["other"]["steps"]] == [
        "0001_initial",
        "0002_write",
    ]
    expect_problem(
        ci.ask_for_run({**plans["default"], "database": "other"}),
        409,
        "plan_changed",
        "stale_code",
    )

    first = ci.wait_for_end(ci.run(plans["default"])["id"])
    second = ci.wait_for_end(ci.run(plans["other"])["id"])
    assert (first["database"], first["state"]) == ("default", "succeeded")
    assert (second["database"], second["state"]) == ("other", "failed")
    assert [step["state"] for step in second["steps"]] == ["applied", "failed"]
    assert ci.get(f"runs/{first['id']}")["state"] == "succeeded"
    assert site.applied() == ["0001_initial", "0002_write"]
    assert site.project.databases["other"].applied() == ["0001_initial"]
    status = ci.status()
    assert status["default"]["pending"] == 0
    assert "shop.0002_write" in status["other"]["pending_migrations"]


@on("postgres-gthread")
def test_routers_decide_where_tables_go(build, pair):
    """With a router every table is where the router says, and nowhere else."""
    site = build(
        pair,
        {"0002_sku": column("sku")},
        empty=("default",),
        others=("other",),
        options=Options(routers=["market.routers.ShopElsewhere"]),
    )
    ci = site.client("ci")
    for alias in ("default", "other"):
        assert ci.apply(database=alias)["state"] == "succeeded"
    other = site.project.databases["other"]
    assert "sku" in other.columns("shop_item")
    assert "shop_item" not in site.database.tables()
    assert "auth_user" in site.database.tables()
    assert other.tables() - {"django_migrations", "sqlite_sequence"} == {"shop_item"}
    assert {entry["pending"] for entry in ci.status().values()} == {0}
    assert other.applied() == ["0001_initial", "0002_sku"]


@on_each_once
def test_a_database_that_does_not_answer_hides_no_other(build, pair):
    """Status responds for the rest, and a plan for the lost one is
    `database_unavailable`."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    settings = dict(site.database.settings())
    lost = {"NAME": "/no/such/folder/file"} if pair.vendor == "sqlite" else {"PORT": 1}
    site.project.set_options(Options(settings={"DATABASES": {"lost": settings | lost}}))
    site.serve()
    ci = site.client("ci")
    status = ci.status()
    assert not status["lost"]["reachable"]
    assert status["lost"]["problem"]["code"] == "database_unavailable"
    assert status["default"]["reachable"]
    assert status["default"]["pending_migrations"] == ["shop.0002_sku"]
    expect_problem(ci.ask_for_plan(database="lost"), 503, "database_unavailable")
    plan = {**ci.plan(), "database": "lost"}
    expect_problem(ci.ask_for_run(plan), 503, "database_unavailable")
    assert ci.apply()["state"] == "succeeded"
    assert site.has_column("sku")
