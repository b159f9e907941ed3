"""Tests of access to the pages, and of what all pages have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connections
from django.test import Client
from django.urls import resolve, reverse

from migration_route.core.enums import Scope
from migration_route.ledger.records import RunRecord
from migration_route.planning import sources
from tests.web.conftest import SignIn

PAGES = ("dashboard", "plan", "history", "ledger")
ID = "0" * 32
POSTS = (
    reverse("migration_route:apply"),
    reverse("migration_route:cancel", kwargs={"run": ID}),
    reverse("migration_route:resolve", kwargs={"run": ID}),
)


@pytest.mark.parametrize("name", PAGES)
def test_whoever_is_not_signed_in_is_sent_to_the_login_and_back(
    database: None, client: Client, name: str
) -> None:
    """The requested page is the next one."""
    address = reverse(f"migration_route:{name}")
    answer = client.get(address, {"database": "default"})
    assert answer.status_code == 302
    assert answer["Location"] == (
        f"/admin/login/?next={address.replace('/', '%2F')}%3Fdatabase%3Ddefault"
    )


@pytest.mark.parametrize("address", POSTS)
def test_a_form_of_nobody_changes_nothing_and_leads_to_the_login(
    database: None, client: Client, address: str
) -> None:
    """A URL that only accepts POST is not where the login returns to."""
    answer = client.post(address)
    assert answer.status_code == 302
    assert answer["Location"] == "/admin/login/?next=%2Fmigrations%2F"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_answers_to_head_as_to_get(everyone_can: Client, name: str) -> None:
    assert everyone_can.head(reverse(f"migration_route:{name}")).status_code == 200


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
@pytest.mark.parametrize("address", POSTS)
def test_what_changes_something_answers_to_post_only(
    everyone_can: Client, address: str, method: str
) -> None:
    """Every other method except OPTIONS is 405, and the response lists the allowed one."""
    answer = getattr(everyone_can, method)(address)
    assert answer.status_code == (204 if method == "options" else 405)
    assert answer["Allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_shows_does_not_answer_to_post(everyone_can: Client, name: str) -> None:
    """POST is 405 where there is nothing to change."""
    answer = everyone_can.post(reverse(f"migration_route:{name}"))
    assert answer.status_code == 405
    assert answer["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_kept_and_each_names_the_build(everyone_can: Client, name: str) -> None:
    """A cached page would be outdated."""
    answer = everyone_can.get(reverse(f"migration_route:{name}"))
    assert answer.status_code == 200
    assert {"no-store", "no-cache", "private"} <= set(answer["Cache-Control"].split(", "))
    assert answer["Migration-Route-Build"] == sources.build()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_no_script_and_no_style_of_its_own(
    everyone_can: Client, name: str
) -> None:
    """The pages work under `default-src 'self'`."""
    text = everyone_can.get(reverse(f"migration_route:{name}")).content.decode()
    assert "style=" not in text
    assert "<style" not in text
    assert " onclick=" not in text
    assert text.count("<script") == text.count("<script src=") + text.count(
        '<script type="module" src='
    )


def test_staff_without_the_right_are_told_which_one_is_missing(sign_in: SignIn) -> None:
    """The 403 is actionable."""
    answer = sign_in().get(reverse("migration_route:dashboard"))
    assert answer.status_code == 403
    assert b"migration_route.view_run" in answer.content


def test_readers_may_read_runs_but_not_plans(sign_in: SignIn) -> None:
    """Each right opens its own pages."""
    reader = sign_in(Scope.READ)
    assert reader.get(reverse("migration_route:history")).status_code == 200
    answer = reader.get(reverse("migration_route:plan"))
    assert answer.status_code == 403
    assert b"migration_route.plan<" in answer.content


def test_somebody_who_is_not_staff_is_turned_away(sign_in: SignIn) -> None:
    """Permissions alone are not enough."""
    answer = sign_in(*Scope, is_staff=False).get(reverse("migration_route:dashboard"))
    assert answer.status_code == 403
    assert b"staff users" in answer.content


def test_a_token_reads_a_page_as_a_person_does(database: None, client: Client) -> None:
    """Without the admin's layout, because a token has no user."""
    headers = {"Authorization": "Bearer reader-secret"}
    answer = client.get(reverse("migration_route:dashboard"), headers=headers)
    assert answer.status_code == 200
    assert b'class="mr-own"' in answer.content


def test_an_unknown_token_is_not_led_to_the_login(database: None, client: Client) -> None:
    """A machine cannot fill in a form."""
    headers = {"Authorization": "Bearer nobody-secret"}
    answer = client.get(reverse("migration_route:dashboard"), headers=headers)
    assert answer.status_code == 401
    assert b"is unknown" in answer.content


def test_no_page_stands_in_a_transaction_of_the_request(everyone_can: Client) -> None:
    """ATOMIC_REQUESTS has no effect, on any database."""
    for name in ("dashboard", "plan", "apply", "history", "ledger"):
        view = resolve(reverse(f"migration_route:{name}")).func
        assert vars(view)["_non_atomic_requests"] == set(connections)


def test_the_login_middleware_leaves_the_pages_alone(
    database: None, client: Client, settings: Any
) -> None:
    """The actor decides, not LoginRequiredMiddleware."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    headers = {"Authorization": "Bearer reader-secret"}
    assert (
        client.get(reverse("migration_route:dashboard"), headers=headers).status_code == 200
    )


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/migrations/plan/?database=nowhere", 404, b"unknown_database"),
        ("/migrations/plan/?target=nowhere.0001", 404, b"unknown_target"),
        (f"/migrations/runs/{ID}/", 404, b"unknown_run"),
        ("/migrations/runs/zzz/", 400, b"invalid_request"),
        ("/migrations/ledger/?before=x", 400, b"invalid_request"),
    ],
)
def test_what_goes_wrong_is_a_page_with_its_code(
    everyone_can: Client, address: str, status: int, words: bytes
) -> None:
    """Message, hint and code, with the status of the error."""
    answer = everyone_can.get(address)
    assert answer.status_code == status
    assert words in answer.content


def test_the_words_of_a_request_do_not_become_part_of_the_page(
    everyone_can: Client,
) -> None:
    """Any text of a request is escaped."""
    evil = "<img src=x onerror=alert(1)>"
    answer = everyone_can.get(reverse("migration_route:plan"), {"database": evil})
    assert answer.status_code == 404
    assert b"<img" not in answer.content


def test_the_dashboard_shows_every_database_with_its_plan(everyone_can: Client) -> None:
    """One card each."""
    text = everyone_can.get(reverse("migration_route:dashboard")).content.decode()
    for alias in (DEFAULT_DB_ALIAS, "other"):
        assert f'href="/migrations/plan/?database={alias}"' in text
    assert "Up to date" in text


def test_the_dashboard_leads_to_the_run_that_is_under_way(
    everyone_can: Client, a_run: Callable[..., RunRecord]
) -> None:
    """A later visitor finds the run that another user has started."""
    run = a_run()
    answer = everyone_can.get(reverse("migration_route:dashboard"))
    assert f"/migrations/runs/{run.id}/" in answer.content.decode()
    assert b"Active run:" in answer.content
