"""Tests of the interfaces that respond while a middleware of the project always fails."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.test_bootstrap import LIVE_SESSION
from tests.e2e.test_health import in_a_freeze
from tests.e2e.test_windows import carrier_of, let_its_time_come
from tests.harness.client import API, Surprise, expect, expect_problem
from tests.harness.migrations import column, migration
from tests.harness.pairs import on, on_each_once
from tests.harness.project import PASSWORD, Options

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "shop.flags.read_flags",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
GATE = ["migration_route.middleware.MigrationRouteMiddleware"]
FLAGS = migration(
    'migrations.RunSQL("CREATE TABLE shop_flag (name varchar(20))", "DROP TABLE shop_flag")'
)


def site_behind(build, pair, middleware, more=None):
    """Build a site whose second middleware reads a table that a pending migration
    creates."""
    options = Options(settings={"MIDDLEWARE": middleware})
    return build(pair, {"0002_flags": FLAGS, **(more or {})}, options=options)


def hidden(page):
    """Return the hidden fields of the forms of a page."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))


@on("sqlite-gthread")
def test_without_the_gate_every_interface_is_shut(build, pair):
    """Users and machines are both shut out, which is what the gate solves."""
    site = site_behind(build, pair, MIDDLEWARE)
    for path in ("status", "plan", "ready"):
        with pytest.raises((Surprise, KeyError)):
            site.client("ci").call("GET", path)
    answer = site.client("ci").http.get("/admin/")
    assert answer.status_code == 500


@on_each_once
def test_with_the_gate_a_token_applies_and_a_member_of_staff_goes_on(build, pair):
    """The page responds before and after; once the table exists, the rest does too."""
    site = site_behind(
        build,
        pair,
        GATE + MIDDLEWARE,
        {"0003_sku": column("sku", after="0002_flags")},
    )
    session = site.project.python(LIVE_SESSION).splitlines()[-1]
    boss = site.client(None)
    boss.http.cookies.set("sessionid", session)
    page = boss.http.get("/_m/plan/?target=shop.0002_flags")
    assert page.status_code == 200, page.text
    assert "0002_flags" in page.text
    assert boss.http.get("/admin/").status_code == 500
    assert site.client(None).call("GET", "ready").status_code == 503

    ci = site.client("ci")
    run = ci.run(ci.plan("shop.0002_flags"))
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    assert boss.http.get("/admin/").status_code == 200

    site.execute("DROP TABLE shop_flag")
    # The session was created elsewhere: the time of its login is unknown.
    asked = boss.http.post("/_m/apply/", data=hidden(boss.http.get("/_m/plan/")))
    assert asked.status_code == 403
    assert not site.has_column("sku")
    form = {**hidden(asked), "password-of-this-login": PASSWORD}
    answer = boss.http.post("/_m/apply/", data=form)
    assert answer.status_code == 302, answer.text
    run = answer.headers["Location"].rstrip("/").rpartition("/")[2]
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.has_column("sku")
    assert ci.get(f"runs/{run}")["requested_by"] == {"kind": "user", "name": "boss"}


@on_each_once
def test_a_permit_applies_on_an_empty_database(build, pair):
    """Issued on a host, it is used once on a page by a user who is in no table."""
    site = build(pair, empty=("default",))
    found = json.loads(site.project.manage("migration_route", "plan", "--json").stdout)
    told = site.project.manage(
        "migration_route", "permit", found["fingerprint"], "--reason", "day one", "--json"
    )
    permit = json.loads(told.stdout)
    nobody = site.client(None)
    assert site.database.tables() == set()
    page = nobody.http.post("/_m/permit/", data={"permit": permit["permit"]})
    assert page.status_code == 200, page.text
    assert "day one" in page.text
    assert site.database.tables() == set()
    form = {"permit": permit["permit"], "do": "apply"}
    answer = nobody.http.post("/_m/permit/", data=form)
    assert answer.status_code == 200, answer.text
    bearer = site.client(None)
    bearer.http.headers["Authorization"] = f"Bearer {permit['permit']}"
    run = expect(bearer.call("GET", "runs"), 200)["runs"][0]
    run = bearer.wait_for_end(run["id"])
    assert run["state"] == "succeeded"
    assert run["permit"] == permit["id"]
    assert run["requested_by"] == {"kind": "permit", "name": permit["issued_by"]}
    assert {"shop_item", "auth_user"} <= site.database.tables()
    again = nobody.http.post("/_m/permit/", data=form)
    assert again.status_code == 403
    assert "permit_used" in again.text
    problem = expect_problem(bearer.ask_for_run(found), 403, "permit_used")
    assert problem["run"] == run["id"]
    entries = site.client("reader").entries()
    assert [e["run"] for e in entries if e["action"] == "run_requested"] == [run["id"]]
    codes = [e["facts"]["code"] for e in entries if e["action"] == "denied"]
    assert codes == ["permit_used"] * 2
    assert site.client("reader").get("ledger/verify")["intact"]


@on("postgres-gthread", "sqlite-sync")
def test_a_permit_stands_for_people_and_not_for_a_better_moment(build, pair):
    """It requires no approval, but waits for the end of a freeze like any run."""
    people = {"APPROVALS": {"required": 2}}
    frozen = Options(migration_route={**people, "FREEZES": [in_a_freeze(3600)]})
    site = build(pair, {"0002_sku": column("sku")}, options=frozen)
    found = json.loads(site.project.manage("migration_route", "plan", "--json").stdout)
    assert found["approval"]["required"] == 2
    told = site.project.manage("migration_route", "permit", found["fingerprint"], "--json")
    bearer = site.client(None)
    bearer.http.headers["Authorization"] = f"Bearer {json.loads(told.stdout)['permit']}"
    run = bearer.run(found)
    assert (run["state"], run["waiting"]["reason"]) == ("waiting", "freeze")
    body = {"reason": "now", "force": True}
    answer = bearer.call("POST", f"runs/{run['id']}/resume", json=body)
    expect_problem(answer, 403, "forbidden")
    assert not site.has_column("sku")
    carrier_of(site, run["id"])  # it has read the settings with the freeze
    let_its_time_come(site, run["id"], changed=Options(migration_route=people))
    ended = bearer.wait_for_end(run["id"], seconds=120)
    assert ended["state"] == "succeeded", ended
    assert site.has_column("sku")


@on("postgres-sync")
def test_of_two_servers_at_once_one_uses_a_permit(build, pair):
    """The database decides, whichever process receives the request."""
    from concurrent.futures import ThreadPoolExecutor

    site = build(pair, {"0002_sku": column("sku")})
    other = site.serve()
    assert other is not None
    found = json.loads(site.project.manage("migration_route", "plan", "--json").stdout)
    told = site.project.manage("migration_route", "permit", found["fingerprint"], "--json")
    permit = json.loads(told.stdout)["permit"]

    def ask(server):
        import httpx

        words = {"fingerprint": found["fingerprint"]}
        headers = {"Authorization": f"Bearer {permit}"}
        url = f"{server.url}{API}runs"
        return httpx.post(url, json=words, headers=headers, timeout=60)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, site.servers * 3))
    assert sorted(answer.status_code < 300 for answer in answers) == [False] * 5 + [True]
    codes = {answer.json()["code"] for answer in answers if answer.status_code >= 300}
    assert codes <= {"permit_used", "active_run"}
    rows = site.rows("SELECT count(*) FROM migration_route_run WHERE permit IS NOT NULL")
    assert rows == [(1,)]
