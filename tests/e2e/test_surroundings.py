"""Tests of this package in projects that are built differently."""

from __future__ import annotations

from tests.harness.client import API, expect_problem
from tests.harness.migrations import column
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options


@on("postgres-gthread")
def test_login_required_middleware_does_not_shut_tokens_out(build, pair):
    """Behind LoginRequiredMiddleware a machine gets responses, not a redirect to a login
    page."""
    site = build(pair, {"0002_sku": column("sku")}, options=Options(login_required=True))
    nobody = site.client(None)
    assert nobody.call("GET", "ready").status_code == 503
    expect_problem(nobody.call("GET", "status"), 401, "unauthenticated")
    page = nobody.http.get("/_m/")
    assert page.status_code in (302, 403)
    assert site.client("ci").apply()["state"] == "succeeded"
    assert nobody.call("GET", "ready").status_code == 200
    boss = site.person("boss")
    assert boss.status()["default"]["pending"] == 0
    assert boss.http.get("/_m/", follow_redirects=True).status_code == 200


@on_each_once
def test_an_api_without_sessions_and_users(build, pair):
    """A project without django.contrib.auth, sessions and admin applies with a token."""
    site = build(
        pair,
        {"0002_sku": column("sku")},
        empty=("default",),
        options=Options(contrib=False),
    )
    ci = site.client("ci")
    assert ci.status()["default"]["pending_migrations"] == [
        "shop.0001_initial",
        "shop.0002_sku",
    ]
    assert ci.apply()["state"] == "succeeded"
    assert site.has_column("sku")
    nobody = site.client(None)
    expect_problem(nobody.call("GET", "status"), 401, "unauthenticated")
    expect_problem(nobody.call("POST", "runs", json={}), 401, "unauthenticated")
    assert nobody.http.get("/_m/").status_code < 500
    assert nobody.http.post("/perform/").status_code in (401, 403)
    assert {"shop_item"} <= site.database.tables()
    assert not any(table.startswith("auth_") for table in site.database.tables())


@on("mariadb-sync")
def test_a_user_model_of_ones_own(build, pair):
    """With a custom user model, on an empty database too, both machine and user succeed."""
    site = build(pair, empty=("default",), options=Options(custom_user=True))
    assert site.client("ci").apply()["state"] == "succeeded"
    site.project.python(
        "from accounts.models import User\n"
        "User.objects.create_superuser('boss', password='walk-password')"
    )
    site.project.add_migrations({"0002_sku": column("sku")})
    site.serve()
    boss = site.client(None, server=site.servers[-1])
    assert boss.sign_in("boss").status_code == 302
    run = boss.apply()
    assert run["state"] == "succeeded"
    assert run["requested_by"] == {"kind": "user", "name": "boss"}
    assert site.has_column("sku")


@on("sqlite-sync")
def test_the_route_runs_in_this_process_where_no_other_may_be_started(build, pair):
    """With the launcher `inline` the response comes when the run has ended."""
    site = build(
        pair,
        {"0002_sku": column("sku")},
        options=Options(migration_route={"LAUNCHER": "inline"}),
        timeout=30,  # the request lasts as long as the run
    )
    ci = site.client("ci")
    answer = ci.ask_for_run(ci.plan())
    assert answer.status_code in (200, 202)
    assert ci.wait_for_end(answer.json()["id"])["state"] == "succeeded"
    assert site.has_column("sku")


@on("sqlite-uvicorn")
def test_every_answer_names_the_build(build, pair):
    """`MIGRATION_ROUTE["BUILD"]` is in a header of every response, refusals included."""
    site = build(pair, options=Options(migration_route={"BUILD": "release-42"}), workers=1)
    for client, path in (
        (site.client("reader"), "status"),
        (site.client(None), "status"),
        (site.client(None), "ready"),
    ):
        answer = client.http.get(API + path)
        assert answer.headers["Migration-Route-Build"] == "release-42"
    assert site.client("ci").plan()["build"] == "release-42"
