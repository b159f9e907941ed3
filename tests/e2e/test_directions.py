"""Tests of backwards, fake and fake_initial runs."""

from __future__ import annotations

from tests.harness.client import expect_problem
from tests.harness.migrations import WRITE_THREE, column, running
from tests.harness.pairs import on


@on("sqlite-gthread")
def test_backwards_needs_its_own_right(build, pair):
    """The plan states its direction, is refused with `apply` alone, and runs with
    `reverse`."""
    site = build(
        pair, {"0002_sku": column("sku"), "0003_size": column("size", after="0002_sku")}
    )
    ci, operator = site.client("ci"), site.client("operator")
    ci.apply()
    plan = ci.plan("shop.0001_initial")
    assert plan["direction"] == "backwards"
    assert [step["name"] for step in plan["steps"]] == ["0003_size", "0002_sku"]
    assert plan["findings"]
    expect_problem(ci.ask_for_run(plan), 403, "forbidden")
    assert site.has_column("size")
    run = operator.wait_for_end(operator.run(plan)["id"])
    assert run["state"] == "succeeded"
    assert {step["state"] for step in run["steps"]} == {"reverted"}
    assert site.applied() == ["0001_initial"]
    assert not site.has_column("sku")


@on("postgres-uvicorn")
def test_fake_needs_its_own_right(build, pair):
    """A faked step is recorded and not executed, and requires `fake`."""
    site = build(pair, {"0002_write": running(WRITE_THREE)})
    ci, operator = site.client("ci"), site.client("operator")
    query = {"database": "default", "mode": "fake"}
    plan = operator.call("GET", "plan", params=query).json()
    assert plan["mode"] == "fake"
    expect_problem(ci.ask_for_run(plan, fake=True), 403, "forbidden")
    expect_problem(operator.ask_for_run(plan), 409, "plan_changed", "stale_code")
    assert site.applied() == ["0001_initial"]
    run = operator.wait_for_end(operator.run(plan, fake=True)["id"])
    assert run["state"] == "succeeded"
    assert run["mode"] == "fake"
    assert site.applied() == ["0001_initial", "0002_write"]
    assert site.names() == []


@on("mariadb-sync")
def test_fake_initial_takes_tables_that_exist(build, pair):
    """With `fake_initial` the first migration of an existing table is only recorded."""
    site = build(pair, {"0002_sku": column("sku")})
    site.execute("DELETE FROM django_migrations WHERE app = 'shop'")
    operator = site.client("operator")
    query = {"database": "default", "mode": "fake_initial", "target": "shop"}
    plan = operator.call("GET", "plan", params=query).json()
    assert [step["name"] for step in plan["steps"]] == ["0001_initial", "0002_sku"]
    run = operator.wait_for_end(operator.run(plan, fake_initial=True)["id"])
    assert run["state"] == "succeeded"
    assert site.applied() == ["0001_initial", "0002_sku"]
    assert site.has_column("sku")
