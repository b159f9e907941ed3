"""Tests that this package works when nothing else does. Scenarios A4 to A6."""

from __future__ import annotations

from tests.harness.client import expect_problem
from tests.harness.migrations import migration
from tests.harness.pairs import on_each_once
from tests.harness.project import Options

USER_WITH_DEPARTMENT = '''\
from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A user whose table is one column behind."""

    department = models.CharField(max_length=50, default="", blank=True)
'''
ADD_DEPARTMENT = migration(
    'migrations.AddField("user", "department",'
    ' models.CharField(max_length=50, default="", blank=True))'
).replace('("shop", "0001_initial")', '("accounts", "0001_initial")')
LIVE_SESSION = """
from django.contrib import auth
from django.contrib.sessions.backends.db import SessionStore
boss = auth.get_user_model().objects.get(username="boss")
session = SessionStore()
session[auth.SESSION_KEY] = str(boss.pk)
session[auth.BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[auth.HASH_SESSION_KEY] = boss.get_session_auth_hash()
session.save()
print(session.session_key)
"""


@on_each_once
def test_a4_the_first_run_on_an_empty_database_is_on_the_ledger(build, pair):
    """Status needs no table and creates none; the run that creates them all is recorded."""
    site = build(pair, empty=("default",))
    reader = site.client("reader")
    ci = site.client("ci")

    found = reader.status()["default"]
    assert found["reachable"]
    assert found["applied"] == 0
    assert not found["ledger_installed"]
    assert {"shop.0001_initial", "auth.0001_initial", "sessions.0001_initial"} <= set(
        found["pending_migrations"]
    )
    assert found["pending"] == len(found["pending_migrations"])
    plan = ci.plan()
    assert len(plan["steps"]) == found["pending"]
    assert site.database.tables() == set()

    run = ci.wait_for_end(ci.run(plan)["id"])
    assert run["state"] == "succeeded"
    assert {step["state"] for step in run["steps"]} == {"applied"}
    assert {"shop_item", "auth_user", "django_session"} <= site.database.tables()
    after = reader.status()["default"]
    assert after["pending"] == 0
    assert after["ledger_installed"]
    requested = [e for e in reader.entries() if e["action"] == "run_requested"]
    assert [entry["run"] for entry in requested] == [run["id"]]
    assert requested[0]["actor"] == {"kind": "token", "name": "ci"}
    assert reader.get("ledger/verify")["intact"]


@on_each_once
def test_a5_a_user_table_behind_the_code_does_not_shut_the_route(build, pair):
    """An existing session is read as far as possible, tokens work, and after the run users
    can sign in."""
    site = build(pair, options=Options(custom_user=True), serve=False)
    session = site.project.python(LIVE_SESSION).splitlines()[-1]
    site.project.write("accounts/models.py", USER_WITH_DEPARTMENT)
    site.project.add_migrations({"0002_department": ADD_DEPARTMENT}, app="accounts")
    site.serve()

    browser = site.client(None)
    browser.http.cookies.set("sessionid", session)
    assert "accounts.0002_department" in browser.http.get("/_m/plan/").text
    plan = browser.plan()
    expect_problem(browser.ask_for_run(plan), 403, "csrf_failed")
    applies_with_a_token(site)
    assert site.has_column("department", "accounts_user")
    boss = site.person("boss")
    assert boss.http.get("/_m/", follow_redirects=True).status_code == 200


@on_each_once
def test_a6_a_missing_session_table_does_not_shut_the_route(build, pair):
    """The page is not a 500 and shows alternatives, tokens work, and the run fixes it."""
    site = build(pair)
    site.execute(
        "DROP TABLE django_session",
        "DELETE FROM django_migrations WHERE app = 'sessions'",
    )
    shows_a_way_forward(site, "a" * 32)
    applies_with_a_token(site)
    assert "django_session" in site.database.tables()
    assert site.person("boss").http.get("/_m/", follow_redirects=True).status_code == 200


def shows_a_way_forward(site, session):
    """Request the staff page with a session that cannot be looked up."""
    browser = site.client(None)
    browser.http.cookies.set("sessionid", session)
    page = browser.http.get("/_m/", follow_redirects=True)
    assert page.status_code == 503, page.text
    assert all(way in page.text for way in ("migration_route apply", "TOKEN")), page.text
    for path in ("status", "plan"):
        expect_problem(browser.call("GET", path), 401, "unauthenticated")


def applies_with_a_token(site):
    """Read status and plan and apply everything with a machine token."""
    ci = site.client("ci")
    assert ci.status()["default"]["pending"] == 1
    plan = ci.plan()
    assert len(plan["steps"]) == 1
    assert ci.wait_for_end(ci.run(plan)["id"])["state"] == "succeeded"
    assert ci.status()["default"]["pending"] == 0
