"""Tests that a form sent with a stale login is continued after the password."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed

from migration_route.models import Run
from migration_route.planning.plan import PlanRequest
from migration_route.services.plans import plain_plan
from migration_route.web.pending_form import FIELD
from tests.people import PASSWORD, grow_old, is_fresh, signed_in_with_a_password

AGAIN = "/migrations/api/v1/reauthenticate"


@pytest.fixture
def stale(inline):
    """Return a client of a superuser who signed in an hour ago, on a database with a
    pending migration."""
    inline.table("0001_a", "made_a")
    client = signed_in_with_a_password()
    grow_old(client)
    return client


def form() -> dict[str, str]:
    """Return the form of the plan page."""
    plan = plain_plan(PlanRequest())
    return {
        "database": "default",
        "fingerprint": plan.fingerprint,
        "reason": 'Release "42"\r\n<script>',
        "key": "k" * 32,
    }


def fields_of(page) -> dict[str, str]:
    """Return the hidden fields of a page."""
    text = page.content.decode()
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', text)
    return {unescape(name): unescape(value) for name, value in found}


def test_the_password_carries_the_form_on_once(stale):
    """The page contains every field; with the password the run starts, and the browser is
    redirected to it as usual."""
    sent = form()
    page = stale.post("/migrations/apply/", sent)
    assert page.status_code == 403
    assert not Run.objects.exists()
    assert "You signed in 1 hour ago" in page.content.decode()
    assert 'action="/migrations/apply/"' in page.content.decode()
    carried = fields_of(page)
    carried.pop("csrfmiddlewaretoken", None)
    assert carried == sent
    key = stale.session.session_key
    answer = stale.post("/migrations/apply/", {**carried, FIELD: PASSWORD})
    assert answer.status_code == 302
    run = Run.objects.get()
    assert answer["Location"] == f"/migrations/runs/{run.id}/"
    assert (run.actor_name, run.state) == ("ada", "succeeded")
    assert stale.session.session_key != key
    assert stale.get(answer["Location"]).status_code == 200
    twice = stale.post("/migrations/apply/", {**carried, FIELD: PASSWORD})
    assert twice["Location"] == answer["Location"]
    assert Run.objects.count() == 1
    assert is_fresh(stale)


def test_the_old_key_of_the_session_is_worth_nothing(stale):
    """Another client with the same key is signed out when the user confirms the
    password."""
    from django.test import Client

    thief = Client()
    thief.cookies["sessionid"] = stale.cookies["sessionid"].value
    assert thief.get("/migrations/").status_code == 200
    stale.post("/migrations/apply/", {**form(), FIELD: PASSWORD})
    assert thief.get("/migrations/").status_code == 302


def test_an_answer_that_says_that_something_went_wrong_keeps_the_session(
    stale, monkeypatch
):
    """Django's middleware sets no cookie on such a response."""
    from migration_route.core.errors import DatabaseUnavailable
    from migration_route.services import apply as applying

    def fails(*_):
        raise DatabaseUnavailable

    monkeypatch.setattr(applying, "apply", fails)
    answer = stale.post("/migrations/apply/", {**form(), FIELD: PASSWORD})
    assert answer.status_code == 503
    monkeypatch.undo()
    assert is_fresh(stale)


def test_a_wrong_password_is_told_and_counted(stale):
    """Nothing is done, Django's signal is sent with the request, and the sixth attempt is
    refused, even if it is correct; signing in again resets this."""
    heard = []

    def listen(*, credentials, request, **_):
        heard.append((credentials["username"], request.path))

    user_login_failed.connect(listen)
    sent = form()
    try:
        for _ in range(5):
            page = stale.post("/migrations/apply/", {**sent, FIELD: "wrong"})
            assert page.status_code == 403
            text = page.content.decode()
            assert "The password for &#x27;ada&#x27; is wrong." in text
            assert "wrong</" not in text
            assert FIELD not in fields_of(page)
        assert heard == [("ada", "/migrations/apply/")] * 5
        page = stale.post("/migrations/apply/", {**sent, FIELD: PASSWORD})
        assert page.status_code == 429
        assert "further attempts are refused" in page.content.decode()
        assert len(heard) == 5
    finally:
        user_login_failed.disconnect(listen)
    assert not Run.objects.exists()
    by_api = stale.post(AGAIN, {"password": PASSWORD}, content_type="application/json")
    assert (by_api.status_code, by_api.json()["code"]) == (429, "too_many_attempts")
    assert by_api["Retry-After"] == "900"
    stale.force_login(User.objects.get(username="ada"))
    assert is_fresh(stale)


def test_wrong_passwords_are_counted_for_every_process(stale):
    """They are on the ledger, where another process reads them."""
    from migration_route.ledger.bootstrap import install
    from migration_route.ledger.queries import list_entries
    from migration_route.services.reauthentication import attempts

    install()
    for _ in range(5):
        stale.post("/migrations/apply/", {FIELD: "wrong"})
        attempts.forget()
    entries = list_entries(before=None, limit=5)
    assert {entry.facts["code"] for entry in entries} == {"wrong_password"}
    assert {entry.actor_name for entry in entries} == {"ada"}
    assert stale.post("/migrations/apply/", {FIELD: PASSWORD}).status_code == 429


def test_the_password_of_another_is_not_ones_own(stale):
    """It must be that of the signed-in user."""
    User.objects.create_superuser("eve", password="eve-password")
    page = stale.post("/migrations/apply/", {**form(), FIELD: "eve-password"})
    assert page.status_code == 403
    assert not is_fresh(stale)


def test_an_account_without_a_password_is_not_asked_for_one(stale):
    """The page says what to do."""
    user = User.objects.get(username="ada")
    user.set_unusable_password()
    user.save()
    stale.force_login(user)
    grow_old(stale)
    page = stale.post("/migrations/apply/", form())
    text = page.content.decode()
    assert page.status_code == 403
    assert "Sign out and in again" in text
    assert 'type="password"' not in text
    by_api = stale.post(AGAIN, {"password": "x"}, content_type="application/json")
    assert by_api.json()["code"] == "reauthentication_required"


@pytest.mark.parametrize("large", [{"reason": "x" * 70_000}, {"target": ["a.b"] * 501}])
def test_a_form_that_is_too_large_is_not_carried(stale, large):
    """It is refused instead of losing a part of it."""
    page = stale.post("/migrations/apply/", large)
    assert page.status_code == 413
    assert "too large to be kept" in page.content.decode()


def test_whoever_may_not_do_it_is_told_so_after_the_password(sign_in, inline):
    """The password grants no right."""
    client = sign_in()
    user = User.objects.get()
    user.set_password(PASSWORD)
    user.save()
    client.force_login(user)
    grow_old(client)
    answer = client.post("/migrations/apply/", {FIELD: PASSWORD, "fingerprint": "x"})
    assert answer.status_code == 403
    assert "lacks the permission" in answer.content.decode()


def test_the_form_needs_its_csrf_token(inline):
    """Another site cannot make a user's browser guess."""
    client = signed_in_with_a_password(csrf=True)
    grow_old(client)
    page = client.post("/migrations/apply/", {FIELD: PASSWORD})
    assert "Form rejected" in page.content.decode()
    assert not is_fresh_after_csrf(client)


def is_fresh_after_csrf(client) -> bool:
    client.handler.enforce_csrf_checks = False
    return is_fresh(client)


# --- the API --------------------------------------------------------------------------


def test_the_api_renews_a_login(stale):
    """204 without a body, a new session key, and the next change passes."""
    key = stale.session.session_key
    answer = stale.post(AGAIN, {"password": PASSWORD}, content_type="application/json")
    assert (answer.status_code, answer.content) == (204, b"")
    assert stale.session.session_key != key
    assert is_fresh(stale)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"password": "wrong"}, 403, "wrong_password"),
        ({"password": ""}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
        ({"password": PASSWORD, "user": "eve"}, 400, "invalid_request"),
    ],
)
def test_the_api_says_what_is_wrong(stale, body, status, code):
    """And the login stays as old as it was."""
    answer = stale.post(AGAIN, body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert PASSWORD not in answer.content.decode()
    assert not is_fresh(stale)


def test_a_token_has_no_login_to_renew(stale):
    """The error says so; an anonymous request is told how to sign in."""
    words = {"content_type": "application/json"}
    token = {"Authorization": "Bearer deployer-secret"}
    by_token = stale.post(AGAIN, {"password": PASSWORD}, headers=token, **words)
    assert (by_token.status_code, by_token.json()["code"]) == (403, "forbidden")
    stale.logout()
    by_nobody = stale.post(AGAIN, {"password": PASSWORD}, **words)
    assert (by_nobody.status_code, by_nobody.json()["code"]) == (401, "unauthenticated")


def test_the_api_wants_the_csrf_token(database):
    """It works with a session's cookie, so the request must be intentional."""
    client = signed_in_with_a_password(csrf=True)
    answer = client.post(AGAIN, {"password": PASSWORD}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
