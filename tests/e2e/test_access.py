"""Tests of who may change a database over HTTP, and how. Scenarios A1 to A3, and A7."""

from __future__ import annotations

import re
import time

from tests.harness.client import API, expect, expect_problem
from tests.harness.migrations import column, running
from tests.harness.pairs import on, on_each_once
from tests.harness.project import SECRETS

TWO_COLUMNS = {"0002_sku": column("sku"), "0003_size": column("size", after="0002_sku")}


@on_each_once
def test_a1_reading_methods_apply_nothing_even_for_staff(build, pair):
    """GET, HEAD and OPTIONS change nothing on any URL of an action."""
    site = build(pair, TWO_COLUMNS)
    run = site.client("ci").apply("shop.0002_sku")
    boss = site.person("boss")
    described = boss.get("openapi.json")["paths"]
    changing = [path for path, methods in described.items() if "post" in methods]
    assert any(path.endswith("/runs") for path in changing)
    assert any(path.endswith("/cancel") for path in changing)
    addresses = [API + path.split("/api/v1/")[-1].lstrip("/") for path in changing]
    addresses = [re.sub(r"{\w+}", run["id"], address) for address in addresses]
    pages = ["/_m/apply/", f"/_m/runs/{run['id']}/cancel/", "/perform/"]
    for address in [*addresses, *pages]:
        assert boss.http.get(address).status_code in (200, 405), address
        assert boss.http.head(address).status_code in (200, 405), address
        assert boss.http.options(address).status_code in (200, 204), address
    assert site.applied() == ["0001_initial", "0002_sku"]
    assert not site.has_column("size")


@on_each_once
def test_a2_a_session_needs_csrf_and_a_token_does_not(build, pair):
    """A foreign page cannot use the session of a staff member; a token needs no cookie."""
    site = build(pair, {"0002_sku": column("sku")})
    ci = site.client("ci")
    plan = ci.plan()
    boss = site.person("boss")
    foreign = {"Origin": "https://elsewhere.example"}
    expect_problem(boss.ask_for_run(plan, headers=foreign), 403, "csrf_failed")
    del boss.http.headers["X-CSRFToken"]
    expect_problem(boss.ask_for_run(plan, headers=foreign), 403, "csrf_failed")
    expect_problem(boss.ask_for_run(plan), 403, "csrf_failed")
    assert boss.http.post("/perform/", headers=foreign).status_code == 403
    assert site.applied() == ["0001_initial"]
    run = ci.run(plan)
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.has_column("sku")


@on("postgres-uvicorn")
def test_a2_a_member_of_staff_applies_with_csrf(build, pair):
    """A superuser's session with its CSRF token executes a run in that user's name."""
    site = build(pair, {"0002_sku": column("sku")})
    boss = site.person("boss")
    run = boss.apply()
    assert run["state"] == "succeeded"
    assert run["requested_by"] == {"kind": "user", "name": "boss"}
    assert site.has_column("sku")


@on_each_once
def test_a3_every_denial_changes_nothing_and_is_on_the_ledger(build, pair):
    """Without the right no run starts, and each attempt is an entry."""
    site = build(pair, TWO_COLUMNS)
    ci = site.client("ci")
    ci.apply("shop.0002_sku")
    plan = ci.plan()
    reader = site.client("reader")
    denied_before = denials(reader)

    attempts = {
        "nobody": (site.client(None), 401),
        "visitor": (site.person("visitor", at="/accounts/login/"), 403),
        "helper": (site.person("helper"), 403),
        "expired": (site.client("expired"), 401),
        "revoked": (site.client("revoked"), 401),
        "reader": (reader, 403),
        "planner": (site.client("planner"), 403),
        "elsewhere": (site.client("elsewhere"), 403),
    }
    for name, (client, status) in attempts.items():
        problem = expect_problem(
            client.ask_for_run(plan), (401, 403), "unauthenticated", "forbidden"
        )
        assert problem["status"] == status, name

    denied = denials(reader)[len(denied_before) :]
    assert len(denied) == len(attempts)
    names = {entry["actor"]["name"] for entry in denied}
    assert {"visitor", "helper", "reader", "planner"} <= names
    assert {entry["address"] for entry in denied} == {"127.0.0.1"}
    assert site.applied() == ["0001_initial", "0002_sku"]
    assert not site.has_column("size")


@on("sqlite-gthread")
def test_a3_a_token_in_the_query_string_is_refused(build, pair):
    """A secret in a URL is not accepted."""
    site = build(pair, {"0002_sku": column("sku")}, workers=1)
    nobody = site.client(None)
    plan = site.client("ci").plan()
    body = {"database": "default", "fingerprint": plan["fingerprint"]}
    for word in ("token", "access_token", "authorization"):
        query = {word: SECRETS["ci"]}
        for path in ("status", "plan", "runs", "ledger"):
            answer = nobody.call("GET", path, params=query)
            expect_problem(answer, (400, 401, 403))
        answer = nobody.call("POST", "runs", params=query, json=body)
        expect_problem(answer, (400, 401, 403))
        answer = nobody.http.post("/perform/", params=query)
        assert answer.status_code in (401, 403)
    assert site.applied() == ["0001_initial"]


@on("mariadb-sync")
def test_a3_people_need_the_permission_of_the_verb(build, pair):
    """A staff member reads with `view_run`, plans with `plan`, applies with `apply`."""
    site = build(pair, TWO_COLUMNS)
    ci = site.client("ci")
    ci.apply("shop.0002_sku")
    helper = site.person("helper")
    for path in ("status", "plan", "runs", "ledger"):
        expect_problem(helper.call("GET", path), 403, "forbidden")

    grant(site, "view_run")
    expect(helper.call("GET", "status"), 200)
    expect(helper.call("GET", "runs"), 200)
    expect_problem(helper.ask_for_run(ci.plan()), 403, "forbidden")

    grant(site, "plan")
    plan = helper.plan()
    expect_problem(helper.ask_for_run(plan), 403, "forbidden")
    assert site.applied() == ["0001_initial", "0002_sku"]

    grant(site, "apply")
    assert helper.apply()["state"] == "succeeded"
    assert site.has_column("size")


def denials(client):
    """Return the entries that record a denial."""
    return [entry for entry in client.entries() if entry["action"] == "denied"]


def grant(site, codename):
    """Grant the user "helper" a permission of this package, by writing to the tables."""
    site.execute(
        "INSERT INTO auth_user_user_permissions (user_id, permission_id)"
        " SELECT u.id, p.id FROM auth_user u, auth_permission p, django_content_type c"
        " WHERE u.username = 'helper' AND p.content_type_id = c.id"
        f" AND c.app_label = 'migration_route' AND p.codename = '{codename}'"
    )


LOCK_THE_USERS = {
    "sqlite": "UPDATE auth_user SET first_name = first_name",
    "postgres": "LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE",
    "mariadb": "LOCK TABLES auth_user WRITE",
}


@on_each_once
def test_a7_a_migration_that_locks_the_users_keeps_no_token_waiting(build, pair):
    """The run can be read and followed while no user can sign in."""
    body = f"""\
cursor = schema_editor.connection.cursor()
cursor.execute("{LOCK_THE_USERS[pair.vendor]}")
pass_gate("locked")
if schema_editor.connection.vendor == "mysql":
    cursor.execute("UNLOCK TABLES")
"""
    site = build(pair, {"0002_lock": running(body)})
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.project.await_gate("locked")
    longest = 0.0
    for _ in range(20):
        asked = time.monotonic()
        assert ci.get(f"runs/{run}")["state"] == "running"
        assert ci.status()["default"]["active_run"] == run
        assert ci.events(run)
        longest = max(longest, time.monotonic() - asked)
    assert longest < 5, f"{longest:.2f} s"  # the lock lasts until the checks are done
    site.project.open_gate("locked")
    assert ci.wait_for_end(run)["state"] == "succeeded"
