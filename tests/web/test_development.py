"""Tests of the page that a developer sees while migrations are pending."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.exceptions import MiddlewareNotUsed
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory

from migration_route.core.enums import RunState
from migration_route.ledger import queries
from migration_route.middleware import PendingMigrationsMiddleware
from tests.factories import History, tables

PAGE = "/admin/login/"


@pytest.fixture
def developer(database: None, settings) -> Client:
    """Return a client of a project in development that uses the middleware."""
    settings.DEBUG = True
    settings.MIDDLEWARE = [
        "migration_route.middleware.PendingMigrationsMiddleware",
        *settings.MIDDLEWARE,
    ]
    return Client()


def token_in(page: str) -> str:
    """Return the signed plan of the first form."""
    found: str = re.findall(r'name="migration_route_plan" value="([^"]+)"', page)[0]
    return found


def press(client: Client, path: str, token: str, **meta: Any) -> Any:
    """Submit the form as a browser does."""
    return client.post(
        path,
        urlencode({"migration_route_plan": token}),
        content_type="application/x-www-form-urlencoded",
        **meta,
    )


def test_without_debug_it_is_not_loaded(settings) -> None:
    """The same settings serve production."""
    settings.DEBUG = False
    with pytest.raises(MiddlewareNotUsed):
        PendingMigrationsMiddleware(lambda request: request)


def test_nothing_pending_shows_the_page_that_was_asked_for(developer: Client) -> None:
    """The project's own."""
    assert developer.get(PAGE).status_code == 200


def test_pending_migrations_are_shown_and_applied(
    developer: Client, inline: History
) -> None:
    """With their SQL; afterwards the browser returns to where it was."""
    inline.table("0001_initial", "shelf")
    answer = developer.get(f"{PAGE}?next=/x/")
    page = answer.content.decode()
    assert answer.status_code == 503
    assert "testapp.0001_initial" in page
    assert "CREATE TABLE shelf" in re.sub(r"</?span[^>]*>", "", page)
    done = press(developer, f"{PAGE}?next=/x/", token_in(page))
    assert (done.status_code, done["Location"]) == (303, f"{PAGE}?next=/x/")
    assert "shelf" in tables()
    assert developer.get(PAGE).status_code == 200
    (run,) = queries.list_runs(database=None, before=None, limit=2)
    assert (run.state, run.reason) == (RunState.SUCCEEDED, "development")


def test_a_failure_is_shown_on_the_page(developer: Client, inline: History) -> None:
    """With its error, and the plan that is left."""
    inline.python("0001_fill", "raise ValueError('2 items have no price')")
    token = token_in(developer.get(PAGE).content.decode())
    answer = press(developer, PAGE, token)
    assert answer.status_code == 503
    assert "2 items have no price" in answer.content.decode()


def test_a_plan_that_has_changed_is_shown_again(developer: Client, inline: History) -> None:
    """Nothing is applied that was not shown."""
    inline.table("0001_initial", "shelf")
    token = token_in(developer.get(PAGE).content.decode())
    inline.table("0002_more", "late")
    answer = press(developer, PAGE, token)
    assert answer.status_code == 503
    assert "testapp.0002_more" in answer.content.decode()
    assert "shelf" not in tables()


@pytest.mark.parametrize("token", ["", "forged", "a:b:c"])
def test_a_forged_form_applies_nothing(
    developer: Client, inline: History, token: str
) -> None:
    """It has no signature of this project."""
    inline.table("0001_initial", "shelf")
    answer = press(developer, PAGE, token)
    assert answer.status_code == 503
    assert "shelf" not in tables()


def test_other_machines_see_no_button(developer: Client, inline: History) -> None:
    """A development server that listens on the network applies nothing for them."""
    inline.table("0001_initial", "shelf")
    token = token_in(developer.get(PAGE).content.decode())
    page = developer.get(PAGE, REMOTE_ADDR="192.0.2.7").content.decode()
    assert "migration_route_plan" not in page
    assert "only from the machine" in page
    answer = press(developer, PAGE, token, REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 503
    assert "shelf" not in tables()


def test_static_files_and_our_own_pages_pass(developer: Client, inline: History) -> None:
    """The page needs its style, and the staff pages show the same plan."""
    inline.table("0001_initial", "shelf")
    assert developer.get("/static/none.css").status_code == 404
    assert developer.get("/migrations/api/v1/ready").status_code == 503
    assert "Migrations are pending" not in str(developer.get("/migrations/").content)


def test_an_upload_reaches_the_view_unread(
    developer: Client, rf: RequestFactory, database: None
) -> None:
    """Its body can still be read as a stream."""
    seen: list[bytes] = []
    middleware = PendingMigrationsMiddleware(lambda request: seen.append(request.body))
    request = rf.post("/upload/", {"file": SimpleUploadedFile("a.txt", b"content")})
    middleware(request)
    assert b"content" in seen[0]


def test_a_proxy_is_trusted_for_the_address_only_if_the_settings_say_so(
    developer: Client, inline: History, settings
) -> None:
    """A browser behind a development proxy is not this machine."""
    inline.table("0001_initial", "shelf")
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "NETWORKS": {"trusted_proxies": ["127.0.0.1/32"]},
    }
    page = developer.get(PAGE, headers={"x-forwarded-for": "192.0.2.7"})
    assert "migration_route_plan" not in page.content.decode()
