"""Tests of the pages with other layouts, without the admin, and with missing tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib import admin
from django.db import connections
from django.test import Client
from django.urls import include, path, reverse

from migration_route.core.enums import Scope
from migration_route.ledger.records import RunRecord
from tests.web.conftest import SignIn

DASHBOARD = "/migrations/"

mounted = path("migrations/", include("migration_route.urls"))
backoffice = admin.AdminSite(name="backoffice")
backoffice.site_header = "The back office"


class WithoutAdmin:
    """URLs of a project that mounts no admin."""

    urlpatterns = (mounted,)


class WithItsOwnAdmin:
    """URLs of a project that mounts another admin site than the default one."""

    urlpatterns = (mounted, path("office/", backoffice.urls))


@contextmanager
def renamed(table: str) -> Iterator[None]:
    """Make a table appear missing."""
    with connections["default"].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


def test_the_pages_stand_in_the_admin_of_the_project(everyone_can: Client) -> None:
    """Its header, its log-out, its colors."""
    text = everyone_can.get(DASHBOARD).content.decode()
    assert 'id="user-tools"' in text
    assert "admin/css/base.css" in text


def test_an_admin_site_of_ones_own_is_the_surroundings(
    everyone_can: Client, settings: Any
) -> None:
    """Not the default one, which this project does not mount."""
    settings.ROOT_URLCONF = WithItsOwnAdmin
    text = everyone_can.get(DASHBOARD).content.decode()
    assert "The back office" in text
    assert '"/office/logout/"' in text
    assert Client().get(DASHBOARD)["Location"] == "/office/login/?next=%2Fmigrations%2F"


def test_a_project_that_mounts_no_admin_has_pages_of_their_own(
    everyone_can: Client, settings: Any
) -> None:
    """With CSRF tokens, and the login URL of the settings."""
    settings.ROOT_URLCONF = WithoutAdmin
    settings.LOGIN_URL = "/sign-in/"
    text = everyone_can.get(DASHBOARD).content.decode()
    assert 'class="mr-own"' in text
    assert Client().get(DASHBOARD)["Location"] == "/sign-in/?next=%2Fmigrations%2F"


def test_a_form_works_where_there_is_no_admin(
    sign_in: SignIn, settings: Any, a_run: Callable[..., RunRecord]
) -> None:
    """The CSRF token of such a page is valid."""
    settings.ROOT_URLCONF = WithoutAdmin
    client = sign_in(*Scope, csrf=True)
    page = f"/migrations/runs/{a_run().id}/"
    client.get(page)
    form = {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    assert client.post(f"{page}cancel/", form).status_code == 302


@pytest.mark.parametrize("table", ["auth_user", "django_session"])
def test_a_table_of_users_or_sessions_that_cannot_be_read_is_explained(
    everyone_can: Client, table: str
) -> None:
    """503 with two ways to continue, and without reading users or sessions."""
    with renamed(table):
        answer = everyone_can.get(DASHBOARD)
    text = answer.content.decode()
    assert answer.status_code == 503
    assert "manage.py migration_route apply" in text
    assert "http://testserver/migrations/api/v1/plan" in text
    assert 'id="user-tools"' not in text


def test_a_form_too_is_explained_when_nobody_can_be_recognised(
    everyone_can: Client,
) -> None:
    """The button of a page that was loaded before."""
    with renamed("auth_user"):
        answer = everyone_can.post(reverse("migration_route:apply"), {"fingerprint": "x"})
    assert answer.status_code == 503


def broken_processor(request: Any) -> dict[str, Any]:
    """Read from a table that is not migrated yet, as a project's processor may do."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT * FROM not_there_yet")
    return {}


def test_a_context_processor_that_fails_does_not_take_the_page_with_it(
    everyone_can: Client, settings: Any
) -> None:
    """The page is shown without its layout: it is needed most in this situation."""
    (engine,) = settings.TEMPLATES
    processors = [*engine["OPTIONS"]["context_processors"], f"{__name__}.broken_processor"]
    settings.TEMPLATES = [{**engine, "OPTIONS": {"context_processors": processors}}]
    answer = everyone_can.get("/migrations/plan/")
    assert answer.status_code == 200
    assert b'class="mr-own"' in answer.content
