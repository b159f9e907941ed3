"""Tests of users over HTTP: their permissions, the age of their login, and tables of users
or sessions that are behind the code. Scenarios A5 and A6 for signed-in users."""

from __future__ import annotations

import re
from html import unescape

import pytest

from tests.e2e.test_bootstrap import ADD_DEPARTMENT, USER_WITH_DEPARTMENT
from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import column
from tests.harness.pairs import on, on_each_once
from tests.harness.project import PASSWORD, Options

FIELD = "password-of-this-login"
SIGNED_COOKIES = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}


def sessions_in(engine, folder):
    """Return the settings of a project with this session engine."""
    if engine == "db":
        return {}
    if engine == "signed_cookies":
        return SIGNED_COOKIES
    cache = {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(folder / "cache"),
    }
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "CACHES": {"default": cache},
    }


def with_cookies_of(site, browser, server):
    """Return a client of another server with the same cookies."""
    other = site.client(None, server=server)
    other.http.cookies.update(browser.http.cookies)
    other.http.headers["X-CSRFToken"] = browser.http.headers["X-CSRFToken"]
    return other


def form_of(page):
    """Return the action and the hidden fields of the form on a page."""
    assert "data-once" in page.text, page.text
    form = page.text.split("data-once")[0].rsplit("<form", 1)[1]
    fields = page.text.split("data-once", 1)[1].split("</form>")[0]
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', fields)
    address = re.search(r'action="([^"]*)"', form)
    assert address
    return unescape(address[1]), {unescape(k): unescape(v) for k, v in found}


def press_apply(browser, **more):
    """Submit the form of the plan page, as a browser would, and return any response."""
    plan = browser.plan()
    form = {"database": "default", "fingerprint": plan["fingerprint"], "reason": "a walk"}
    return browser.http.post("/_m/apply/", data={**form, **more})


def run_of(browser, answer):
    """Follow the redirect to the page of a run, and return the run when it has ended."""
    assert answer.status_code == 302, answer.text
    found = re.fullmatch(r"/_m/runs/([0-9a-f]{32})/", answer.headers["Location"])
    assert found, answer.headers
    assert browser.http.get(answer.headers["Location"]).status_code == 200
    return browser.wait_for_end(found[1])


@on("sqlite-gthread", "postgres-gthread", "mariadb-uvicorn")
def test_a5_people_who_are_signed_in_apply_what_their_table_waits_for(build, pair):
    """A deploy adds a column that the user table lacks: the page loads, the plan is shown,
    and the button works; afterwards everything works as before."""
    a_person_applies_the_column(build, pair, "db")


@on("sqlite-sync")
def test_a5_with_sessions_in_cookies(build, pair):
    a_person_applies_the_column(build, pair, "signed_cookies")


@on("postgres-uvicorn")
def test_a5_with_sessions_in_a_cache(build, pair):
    a_person_applies_the_column(build, pair, "cache")


def a_person_applies_the_column(build, pair, engine):
    """Sign in, deploy the column, apply it on the page, and continue."""
    options = Options(custom_user=True, atomic_requests=True)
    site = build(pair, options=options, serve=False)
    settings = sessions_in(engine, site.project.folder)
    site.project.set_options(
        Options(custom_user=True, atomic_requests=True, settings=settings)
    )
    before = site.serve(timeout=60)
    boss = site.person("boss")
    before.stop()
    site.project.write("accounts/models.py", USER_WITH_DEPARTMENT)
    site.project.add_migrations({"0002_department": ADD_DEPARTMENT}, app="accounts")
    boss = with_cookies_of(site, boss, site.serve(timeout=60))

    assert boss.http.get("/admin/").status_code == 500  # the rest of the project fails
    page = boss.http.get("/_m/plan/")
    assert page.status_code == 200, page.text
    assert "accounts.0002_department" in page.text
    run = run_of(boss, press_apply(boss))
    assert run["state"] == "succeeded"
    assert run["requested_by"] == {"kind": "user", "name": "boss"}
    assert site.has_column("department", "accounts_user")
    page = boss.http.get("/_m/")
    assert page.status_code == 200
    assert "mr-own" not in page.text
    assert boss.http.get("/admin/").status_code == 200


@on("postgres-sync")
def test_a5_a_member_of_staff_has_what_the_tables_give_and_a_stale_login_is_asked(
    build, pair
):
    """Without the permission there is no button; with it, and a stale login, the password
    that was read decides."""
    site = build(
        pair,
        options=Options(custom_user=True, migration_route={"REAUTHENTICATION": "3s"}),
        serve=False,
    )
    before = site.serve(timeout=60)
    site.project.manage("migrate", "migration_route")  # inserts the permissions
    helper = site.person("helper")
    before.stop()
    site.project.write("accounts/models.py", USER_WITH_DEPARTMENT)
    site.project.add_migrations({"0002_department": ADD_DEPARTMENT}, app="accounts")
    helper = with_cookies_of(site, helper, site.serve(timeout=60))
    expect_problem(helper.call("GET", "status"), 403, "forbidden")
    site.execute(
        "INSERT INTO accounts_user_user_permissions (user_id, permission_id)"
        " SELECT u.id, p.id FROM accounts_user u, auth_permission p,"
        " django_content_type c WHERE u.username = 'helper' AND p.content_type_id = c.id"
        " AND c.app_label = 'migration_route' AND p.codename = 'apply'"
    )
    is_stale(helper)
    page = press_apply(helper)
    assert page.status_code == 403
    assert "Password for helper" in page.text
    address, fields = form_of(page)
    wrong = helper.http.post(address, data={**fields, FIELD: "wrong"})
    assert (wrong.status_code, "is wrong" in wrong.text) == (403, True)
    assert site.applied("accounts") == ["0001_initial"]
    answer = helper.http.post(address, data={**fields, FIELD: PASSWORD})
    assert run_of(helper, answer)["state"] == "succeeded"
    assert site.has_column("department", "accounts_user")


@pytest.mark.parametrize("engine", ["signed_cookies", "cache"])
@on("postgres-gthread")
def test_a6_sessions_that_are_elsewhere_do_not_need_their_table(build, pair, engine):
    """Its table is missing; a signed-in user restores it."""
    site = build(pair, serve=False)
    settings = sessions_in(engine, site.project.folder)
    site.project.set_options(Options(settings=settings))
    site.serve(timeout=60)
    site.execute(
        "DROP TABLE django_session",
        "DELETE FROM django_migrations WHERE app = 'sessions'",
    )
    boss = site.person("boss")
    assert run_of(boss, press_apply(boss))["state"] == "succeeded"
    assert "django_session" in site.database.tables()


def is_stale(browser, *, seconds=20):
    """Wait until a client's login is too old for a change."""

    def refused():
        answer = browser.call("POST", "runs", json={})
        return answer.json()["code"] == "reauthentication_required"

    until(refused, seconds=seconds, what="the login is stale", every=0.2)


@on_each_once
def test_a_stale_login_is_asked_for_its_password_and_the_action_goes_on(build, pair):
    """On the page nothing happens before the password, and the action is done once after
    it."""
    options = Options(atomic_requests=True, migration_route={"REAUTHENTICATION": "2s"})
    site = build(pair, {"0002_sku": column("sku")}, options=options, timeout=60)
    site.client("ci").apply("shop.0001")  # installs the ledger
    boss = site.person("boss")
    is_stale(boss)
    page = press_apply(boss, key="k" * 32)
    assert page.status_code == 403
    address, fields = form_of(page)
    assert address == "/_m/apply/"
    assert fields["reason"] == "a walk"
    wrong = boss.http.post(address, data={**fields, FIELD: PASSWORD + "!"})
    assert (wrong.status_code, "is wrong" in wrong.text) == (403, True)
    assert site.applied() == ["0001_initial"]
    answer = boss.http.post(address, data={**fields, FIELD: PASSWORD})
    run = run_of(boss, answer)
    assert run["state"] == "succeeded"
    assert run["reason"] == "a walk"
    assert site.has_column("sku")
    denied = [entry for entry in boss.entries() if entry["action"] == "denied"]
    assert {(entry["actor"]["name"], entry["address"]) for entry in denied} == {
        ("boss", "127.0.0.1")
    }


@on("postgres-sync")
def test_a_stale_login_is_renewed_by_the_api(build, pair):
    """For the API and for the smallest view: 403 with the URL, then 204, and it continues
    with the new cookie; the old one is invalid."""
    options = Options(migration_route={"REAUTHENTICATION": "4s"})
    site = build(pair, {"0002_sku": column("sku")}, options=options, timeout=60)
    boss = site.person("boss")
    plan = boss.plan()
    is_stale(boss)
    refused = boss.http.post("/perform/")
    assert refused.status_code == 403
    assert refused.json()["code"] == "reauthentication_required"
    problem = expect_problem(boss.ask_for_run(plan), 403, "reauthentication_required")
    assert problem["facts"] == {"way": "password", "address": "/_m/api/v1/reauthenticate"}
    old = boss.http.cookies["sessionid"]
    body = {"password": "wrong"}
    expect_problem(boss.call("POST", "reauthenticate", json=body), 403, "wrong_password")
    answer = boss.call("POST", "reauthenticate", json={"password": PASSWORD})
    assert (answer.status_code, answer.content) == (204, b"")
    assert boss.http.cookies["sessionid"] != old
    run = expect(boss.ask_for_run(plan), 202)
    assert boss.wait_for_end(run["id"])["state"] == "succeeded"
    thief = site.client(None)
    thief.http.cookies.set("sessionid", old)
    expect_problem(thief.call("GET", "status"), 401, "unauthenticated")


@on("sqlite-gthread")
def test_no_more_than_five_wrong_passwords_are_heard(build, pair):
    """Neither twenty simultaneous requests nor another process bypass the limit."""
    from concurrent.futures import ThreadPoolExecutor

    options = Options(migration_route={"REAUTHENTICATION": "1s"})
    site = build(pair, {"0002_sku": column("sku")}, options=options, timeout=60)
    boss = site.person("boss")
    site.client("ci").apply("shop.0002")
    is_stale(boss)

    def guess(number):
        body = {"password": f"guess {number}"}
        return boss.call("POST", "reauthenticate", json=body).json()["code"]

    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(guess, range(20)))
    assert codes.count("wrong_password") == 5
    assert codes.count("too_many_attempts") == 15
    elsewhere = with_cookies_of(site, boss, site.serve(timeout=60))
    body = {"password": PASSWORD}
    answer = elsewhere.call("POST", "reauthenticate", json=body)
    assert answer.headers["Retry-After"] == "900"
    expect_problem(answer, 429, "too_many_attempts")
