"""Tests that a change requires a fresh login."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse, HttpResponseRedirect
from django.test import Client, RequestFactory
from django.urls import URLPattern, get_resolver, reverse

from migration_route.access.reauthentication import STAMP_KEY
from migration_route.core.enums import Action
from migration_route.ledger.queries import list_entries
from tests.people import grow_old, is_fresh, signed_in_with_a_password

pytestmark = pytest.mark.usefixtures("database")

RUNS = "/migrations/api/v1/runs"
ANSWERS: dict[str, object] = {}


def answer_of_the_project(request):
    """The project's callable, which returns what the test has set."""
    found = ANSWERS["answer"]
    if isinstance(found, Exception):
        raise found
    return found


@pytest.fixture
def says(settings):
    """Configure a callable of the project that returns this answer."""

    def says(answer):
        ANSWERS["answer"] = answer
        path = f"{__name__}.answer_of_the_project"
        settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "REAUTHENTICATION": path}

    yield says
    ANSWERS.clear()


def addresses():
    """Yield every URL of this package by name, with a placeholder for an id."""
    for prefix in get_resolver("migration_route.urls").url_patterns:
        for pattern in getattr(prefix, "url_patterns", [prefix]):
            assert isinstance(pattern, URLPattern)
            names = pattern.pattern.converters
            yield (
                pattern.name,
                reverse(
                    f"migration_route:{pattern.name}", kwargs=dict.fromkeys(names, "a" * 32)
                ),
            )


WITHOUT_A_FRESH_LOGIN = {"api-reauthenticate", "api-nowhere", "permit"}
"""Where a login is renewed, where there is no view, and where a permit replaces the
login."""


def test_no_address_that_changes_something_forgets_to_ask():
    """Every URL that accepts POST, on the pages and in the API, and the smallest view; each
    denial by the API is recorded with name, address and verb."""
    client = signed_in_with_a_password()
    grow_old(client)
    found = [(name, at) for name, at in addresses() if name not in WITHOUT_A_FRESH_LOGIN]
    changing = [
        (name, at)
        for name, at in (*found, ("api-perform", "/perform/"))
        if "POST" in client.options(at).headers["Allow"]
    ]
    assert len(changing) >= 15
    for name, at in changing:
        if name.startswith("api-"):
            answer = client.post(at, {}, content_type="application/json")
            assert (answer.status_code, answer.json()["code"]) == (
                403,
                "reauthentication_required",
            ), at
            assert answer.json()["facts"]["way"] == "password"
        else:
            answer = client.post(at)
            assert answer.status_code == 403, at
            assert "Password for ada" in answer.content.decode(), at
    from migration_route.models import Run

    assert not Run.objects.exists()


def test_no_address_that_only_looks_asks():
    client = signed_in_with_a_password()
    grow_old(client, timedelta(days=10))
    for path in ("status", "plan", "runs", "ledger"):
        assert client.get(f"/migrations/api/v1/{path}").status_code == 200
    assert client.get("/migrations/plan/").status_code == 200


def test_a_denial_is_on_the_ledger_with_who_from_where_and_what(history):
    """As for every other denial."""
    from migration_route.ledger.bootstrap import install

    install()
    client = signed_in_with_a_password()
    grow_old(client)
    client.post(RUNS, {}, content_type="application/json", REMOTE_ADDR="192.0.2.9")
    entry = list_entries(before=None, limit=1)[0]
    assert (entry.action, entry.actor_kind, entry.actor_name, entry.address) == (
        Action.DENIED,
        "user",
        "ada",
        "192.0.2.9",
    )
    assert entry.facts["verb"] == "apply"
    assert entry.facts["code"] == "reauthentication_required"


def test_a_login_that_just_happened_is_fresh():
    """Django's signal reports it, wherever it happens."""
    assert is_fresh(signed_in_with_a_password())


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(minutes=14), True),
        (timedelta(minutes=16), False),
        (timedelta(seconds=-2), True),  # the clock of another host
        (timedelta(seconds=-30), False),  # the clock was set back
        (timedelta(days=-400), False),
    ],
    ids=str,
)
def test_a_login_is_fresh_for_fifteen_minutes_and_never_from_the_future(age, expected):
    """A timestamp in the future is of unknown age: the password is required."""
    client = signed_in_with_a_password()
    grow_old(client, age)
    assert is_fresh(client) is expected


@pytest.mark.parametrize(
    "stamp",
    [
        None,
        "2026-01-01",
        {},
        {"user": "1"},
        {"user": "another", "at": "2999-01-01T00:00:00.000000Z"},
    ],
)
def test_a_session_without_a_stamp_of_this_user_is_asked(stamp):
    """A session from before the app was installed, one of another user, or an invalid
    one."""
    client = signed_in_with_a_password()
    session = client.session
    good = session[STAMP_KEY]
    session[STAMP_KEY] = stamp
    session.save()
    assert not is_fresh(client)
    session[STAMP_KEY] = {**good, "user": "somebody else"}
    session.save()
    assert not is_fresh(client)
    session[STAMP_KEY] = good
    session.save()
    assert is_fresh(client)


@pytest.mark.parametrize(("limit", "expected"), [("2h", True), ("1s", False), (None, True)])
def test_the_setting_says_how_old_a_login_may_be(settings, limit, expected):
    """`None` turns the check off."""
    client = signed_in_with_a_password()
    grow_old(client)
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "REAUTHENTICATION": limit}
    assert is_fresh(client) is expected


def test_a_token_is_never_asked():
    """A machine has no password."""
    answer = Client().post(
        RUNS,
        {},
        content_type="application/json",
        headers={"Authorization": "Bearer deployer-secret"},
    )
    assert answer.json()["code"] == "fingerprint_required"


def test_the_csrf_token_is_asked_for_first():
    """A cross-site request is refused before any other check."""
    client = signed_in_with_a_password(csrf=True)
    grow_old(client)
    assert (
        client.post(RUNS, {}, content_type="application/json").json()["code"]
        == "csrf_failed"
    )


def test_who_is_not_staff_is_told_so_and_not_asked():
    """A password would not help."""
    client = Client()
    client.force_login(User.objects.create_user("eve", password="x"))
    grow_old(client)
    answer = client.post(RUNS, {}, content_type="application/json")
    assert answer.json()["code"] == "forbidden"


def test_a_login_of_a_request_without_a_session_is_no_error():
    """A stateless project signs users in as well."""
    from django.contrib.auth.signals import user_logged_in

    made = User.objects.create_user("ada")
    request = RequestFactory().get("/")
    user_logged_in.send(User, request=request, user=made)
    user_logged_in.send(User, request=None, user=made)


# --- the project's own callable -------------------------------------------------------


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=9)])
def test_the_project_itself_may_say_that_a_login_is_fresh(says, age):
    """Regardless of the timestamp."""
    client = signed_in_with_a_password()
    grow_old(client, age)
    says(True)
    assert is_fresh(client)


@pytest.mark.parametrize(
    "answer",
    [False, 1, "", b"yes", object(), HttpResponse("no redirect"), LookupError("broken")],
    ids=lambda answer: type(answer).__name__,
)
def test_whatever_else_it_says_is_no(says, answer):
    """Neither a truthy value nor an exception counts as fresh, and a password does not help
    either."""
    client = signed_in_with_a_password()
    says(answer)
    told = client.post(RUNS, {}, content_type="application/json").json()
    assert told["code"] == "reauthentication_required"
    assert told["facts"] == {"way": "login", "address": ""}
    renewed = client.post(
        "/migrations/api/v1/reauthenticate",
        {"password": "ada-password"},
        content_type="application/json",
    )
    assert (renewed.status_code, renewed.json()["code"]) == (
        403,
        "reauthentication_required",
    )
    page = client.post("/migrations/apply/")
    assert page.status_code == 403
    assert "Sign out and in again" in page.content.decode()
    assert 'type="password"' not in page.content.decode()


def test_a_path_that_leads_nowhere_fails_closed(settings):
    client = signed_in_with_a_password()
    changed = {**settings.MIGRATION_ROUTE, "REAUTHENTICATION": "nowhere.at_all"}
    settings.MIGRATION_ROUTE = changed
    assert not is_fresh(client)


def test_none_of_it_asks_as_usual(says):
    """A project may decide for some users, and leave the others to the default."""
    client = signed_in_with_a_password()
    says(None)
    assert is_fresh(client)
    grow_old(client)
    assert not is_fresh(client)


@pytest.mark.parametrize(
    ("answer", "address"),
    [
        ("/sso/?next={next}", "/sso/?next=%2Fmigrations%2Fsuspended%2F"),
        ("https://id.example/again", "https://id.example/again"),
        (HttpResponseRedirect("/sso/"), "/sso/"),
    ],
)
def test_it_may_say_where_to_go(says, answer, address):
    """The API returns the URL, the page redirects to it and keeps the form for
    afterwards."""
    client = signed_in_with_a_password()
    says(answer)
    told = client.post(RUNS, {}, content_type="application/json").json()
    assert told["facts"] == {"way": "elsewhere", "address": address}
    form = {"database": "default", "fingerprint": "abc", "reason": "Release 42\r\nand <b>"}
    gone = client.post("/migrations/apply/", form)
    assert (gone.status_code, gone["Location"]) == (302, address)
    says(True)
    back = client.get("/migrations/suspended/").content.decode()
    assert 'action="/migrations/apply/"' in back
    assert 'name="fingerprint" value="abc"' in back
    assert "Release 42\r\nand &lt;b&gt;" in back
    client.post("/migrations/apply/", form)
    assert client.get("/migrations/suspended/")["Location"] == "/migrations/"


def test_what_is_kept_is_kept_for_ten_minutes_and_for_its_sender(says):
    """An old form is not submitted by a late click."""
    client = signed_in_with_a_password()
    says("/sso/")
    client.post("/migrations/apply/", {"fingerprint": "abc"})
    assert client.get("/migrations/suspended/").status_code == 200
    session = client.session
    kept = session["_migration_route_kept"]
    session["_migration_route_kept"] = {**kept, "at": "2020-01-01T00:00:00.000000Z"}
    session.save()
    assert client.get("/migrations/suspended/").status_code == 302
    session["_migration_route_kept"] = {**kept, "user": "somebody else"}
    session.save()
    assert client.get("/migrations/suspended/").status_code == 302


def test_what_is_too_large_to_be_kept_is_not(says):
    """The redirect to the login still works."""
    client = signed_in_with_a_password()
    says("/sso/")
    gone = client.post("/migrations/apply/", {"reason": "x" * 17_000})
    assert (gone.status_code, gone["Location"]) == (302, "/sso/")
    assert client.get("/migrations/suspended/").status_code == 302


def test_a_form_in_a_cookie_is_smaller(says, settings):
    """A browser drops a cookie larger than 4 kB."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    client = signed_in_with_a_password()
    says("/sso/")
    client.post("/migrations/apply/", {"fingerprint": "abc", "reason": "x" * 2000})
    assert client.get("/migrations/suspended/").status_code == 302
    client.post("/migrations/apply/", {"fingerprint": "abc", "reason": "x" * 500})
    assert client.get("/migrations/suspended/").status_code == 200
    assert len(client.cookies["sessionid"].value) < 3000


def test_json_names_nothing_that_is_secret(says):
    """This is the complete response."""
    client = signed_in_with_a_password()
    grow_old(client)
    answer = client.post(RUNS, {}, content_type="application/json")
    assert set(json.loads(answer.content)["facts"]) == {"way", "address"}
