"""Tests that this package's URLs respond when the project's own middleware fails."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path, set_script_prefix

from migration_route.checks import GATE, check_settings
from tests.access.test_sessions import signed_in, user
from tests.factories import tables

pytestmark = pytest.mark.usefixtures("database")

API = "/migrations/api/v1/"
SELF = "tests.test_gate"
TOKEN: dict[str, Any] = {"headers": {"Authorization": "Bearer reader-secret"}}
seen: list[str] = []


def reads_what_is_not_there(get_response):
    """A middleware that fails on every request."""

    def middleware(request):
        raise LookupError(f"no such table, for {request.path}")

    return middleware


class Noting(SessionMiddleware):
    """A session middleware of the project."""

    def process_request(self, request):
        """Record the request."""
        seen.append("session")
        super().process_request(request)


class LastSeen(AuthenticationMiddleware):
    """An authentication middleware of the project."""

    def process_view(self, request, view, arguments, words):
        """Record the view."""
        seen.append(getattr(request.resolver_match, "url_name", None) or "")


@pytest.fixture(autouse=True)
def _middleware(settings, history):
    seen.clear()
    usual = [
        f"{SELF}.Noting" if "Session" in name else name for name in settings.MIDDLEWARE
    ]
    usual = [f"{SELF}.LastSeen" if "Authent" in name else name for name in usual]
    settings.MIDDLEWARE = [GATE, f"{SELF}.reads_what_is_not_there", *usual]
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}


def client(**words):
    """Return a client that receives responses as from a server."""
    return Client(raise_request_exception=False, **words)


def test_all_other_addresses_fail_as_before():
    """The gate applies to this package's URLs only."""
    for address in ("/admin/", "/nowhere/", "/migration", "/migrations"):
        assert client().get(address).status_code == 500, address


def test_a_machine_asks_for_no_session(settings):
    """Neither do the public pages; an API call without a token does."""
    assert client().get(API + "status", **TOKEN).status_code == 200
    assert client().get(API + "ready").status_code == 200
    assert client().get(API + "openapi.json").status_code == 200
    assert client().get("/migrations/permit/").status_code == 200
    assert seen == []
    assert client().get(API + "status").status_code == 401
    assert seen == ["session", "api-status"]


def test_an_address_that_is_none_is_answered_by_the_route():
    """The response is a problem with a code."""
    answer = client().get(API + "nowhere", **TOKEN)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_address")


def test_a_token_applies(history, project):
    """`perform_migration` applies too, with the token of the request."""
    history.table("0001_a", "made_a")
    project()
    headers = {"headers": {"Authorization": "Bearer deployer-secret"}}
    plan = client().get(API + "plan", **headers).json()
    body = json.dumps({"fingerprint": plan["fingerprint"]})
    answer = client().post(API + "runs", body, "application/json", **headers)
    assert answer.status_code == 202, answer.content
    assert "made_a" in tables()
    answer = client().post("/perform/", **headers)
    assert (answer.status_code, answer.json()["state"]) == (200, "noop")


def test_a_member_of_staff_applies_on_the_page(history, project):
    """The page uses the session, the user and the CSRF check of the project."""
    history.table("0001_a", "made_a")
    project()
    browser = signed_in(user("apply"), enforce_csrf_checks=True)
    page = browser.get("/migrations/plan/")
    assert page.status_code == 200
    assert "session" in seen
    assert "plan" in seen
    plan = browser.get(API + "plan").json()
    form = {"fingerprint": plan["fingerprint"], "key": "one"}
    assert browser.post("/migrations/apply/", form).status_code == 403
    form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"].value
    assert browser.post("/migrations/apply/", form).status_code == 302
    assert "made_a" in tables()


def test_the_headers_of_the_project_are_on_the_answer(settings):
    """The security headers and the Host check apply."""
    settings.MIDDLEWARE = [
        GATE,
        f"{SELF}.reads_what_is_not_there",
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.common.CommonMiddleware",
    ]
    answer = client().get(API + "ready")
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == str(len(answer.content))
    settings.ALLOWED_HOSTS = ["here.example"]
    answer = client().get(API + "ready", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 400
    settings.ALLOWED_HOSTS = ["*"]
    settings.SECURE_SSL_REDIRECT = True
    assert client().get(API + "ready").status_code == 301


def test_a_broken_dress_is_left_off(settings):
    """A context processor may depend on middleware that the gate skips."""
    broken = {**settings.TEMPLATES[0]}
    broken["OPTIONS"] = {"context_processors": [f"{SELF}.needs_the_tenant"]}
    settings.TEMPLATES = [broken]
    page = signed_in(user("view_run")).get("/migrations/")
    assert page.status_code == 200
    assert b"Databases" in page.content


def needs_the_tenant(request):
    """A context processor that depends on a middleware."""
    return {"tenant": request.tenant.name}


def test_the_mount_is_found_behind_a_script_name():
    """As behind a server that mounts the project below a prefix."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/shop",
        "PATH_INFO": API + "ready",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "wsgi.input": BytesIO(),
        "wsgi.url_scheme": "http",
    }
    told = []

    def start_response(status, headers, exc_info=None, /):
        told.append(status)

    handler = WSGIHandler()
    try:
        body = b"".join(handler(environ, start_response))
    finally:
        set_script_prefix("/")
    assert told == ["200 OK"], body
    assert json.loads(body)["ready"] is True


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_mount_is_found_behind_a_language(settings, language):
    """`i18n_patterns` may wrap the mount; the language is that of the URL."""
    settings.ROOT_URLCONF = "tests.urls_by_language"
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    assert client().get(f"/{language}{API}ready").status_code == 200
    assert client().get(f"/{language}/other/").status_code == 500
    assert client().get("/fr/other/").status_code == 500


def test_a_project_without_the_route_in_its_addresses_is_left_alone(settings):
    """Without a mount the gate does nothing."""
    settings.ROOT_URLCONF = f"{SELF}"
    settings.MIDDLEWARE = [GATE]
    assert client().get("/here/").content == b"here"
    assert client().get(API + "ready").status_code == 404


urlpatterns = [path("here/", lambda request: HttpResponse("here"))]


def test_an_event_loop_is_served_too():
    """The request is handled in a thread."""

    async def ask():
        asking = AsyncClient(raise_request_exception=False)
        answer = await asking.get(API + "status", **TOKEN)
        return answer, await asking.get("/admin/")

    answer, other = async_to_sync(ask)()
    assert answer.status_code == 200
    assert answer.json()["databases"]
    assert other.status_code == 500


def test_a_gate_that_is_not_the_first_is_a_warning(settings):
    """Middleware before the gate can still fail."""
    assert check_settings(None) == []
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[1:], GATE]
    assert [found.id for found in check_settings(None)] == ["migration_route.W002"]
