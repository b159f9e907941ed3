"""Tests of the page that a developer sees while migrations are pending."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import MiddlewareNotUsed
from django.test import Client

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
    done = developer.post(f"{PAGE}?next=/x/", {"migration_route_plan": token_in(page)})
    assert (done.status_code, done["Location"]) == (303, f"{PAGE}?next=/x/")
    assert "shelf" in tables()
    assert developer.get(PAGE).status_code == 200
    (run,) = queries.list_runs(database=None, before=None, limit=2)
    assert (run.state, run.reason) == (RunState.SUCCEEDED, "development")


def test_a_failure_is_shown_on_the_page(developer: Client, inline: History) -> None:
    """With its error, and the plan that is left."""
    inline.python("0001_fill", "raise ValueError('2 items have no price')")
    token = token_in(developer.get(PAGE).content.decode())
    answer = developer.post(PAGE, {"migration_route_plan": token})
    assert answer.status_code == 503
    assert "2 items have no price" in answer.content.decode()


def test_a_plan_that_has_changed_is_shown_again(developer: Client, inline: History) -> None:
    """Nothing is applied that was not shown."""
    inline.table("0001_initial", "shelf")
    token = token_in(developer.get(PAGE).content.decode())
    inline.table("0002_more", "late")
    answer = developer.post(PAGE, {"migration_route_plan": token})
    assert answer.status_code == 503
    assert "testapp.0002_more" in answer.content.decode()
    assert "shelf" not in tables()


@pytest.mark.parametrize("token", ["", "forged", "a:b:c"])
def test_a_forged_form_applies_nothing(
    developer: Client, inline: History, token: str
) -> None:
    """It has no signature of this project."""
    inline.table("0001_initial", "shelf")
    answer = developer.post(PAGE, {"migration_route_plan": token})
    assert answer.status_code == 503
    assert "shelf" not in tables()


def test_other_machines_see_no_button(developer: Client, inline: History) -> None:
    """A development server that listens on the network applies nothing for them."""
    inline.table("0001_initial", "shelf")
    token = token_in(developer.get(PAGE).content.decode())
    page = developer.get(PAGE, REMOTE_ADDR="192.0.2.7").content.decode()
    assert "migration_route_plan" not in page
    assert "only from the machine" in page
    answer = developer.post(PAGE, {"migration_route_plan": token}, REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 503
    assert "shelf" not in tables()


def test_static_files_and_our_own_pages_pass(developer: Client, inline: History) -> None:
    """The page needs its style, and the staff pages show the same plan."""
    inline.table("0001_initial", "shelf")
    assert developer.get("/static/none.css").status_code == 404
    assert developer.get("/migrations/api/v1/ready").status_code == 503
    assert "Migrations are pending" not in str(developer.get("/migrations/").content)
