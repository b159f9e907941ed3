"""Tests of authentication while the user table is behind the code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client

from migration_route.web.pending_form import FIELD
from tests.access.test_sessions import RUNS, STATUS, signed_in, user
from tests.people import PASSWORD, grow_old, is_fresh, signed_in_with_a_password

pytestmark = pytest.mark.usefixtures("database")

AGAIN = "/migrations/api/v1/reauthenticate"


class Strict(ModelBackend):
    """A backend with its own code in `get_user`."""

    def get_user(self, user_id):
        """Check more than the row."""
        found = super().get_user(user_id)
        return found if found and found.email else None


@contextmanager
def without_column(column: str, table: str = "auth_user") -> Iterator[None]:
    """Simulate a column that the table lacks."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO moved_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME COLUMN moved_away TO {column}")


@contextmanager
def without_table(table: str) -> Iterator[None]:
    """Simulate a missing table."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO moved_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE moved_away RENAME TO {table}")


def test_a_superuser_goes_on(caplog):
    """Every page and call works, changes included; the pages have their usual layout."""
    client = signed_in_with_a_password()
    with without_column("last_name"):
        assert client.get(STATUS).status_code == 200
        for path in ("", "plan/", "runs/", "ledger/"):
            page = client.get(f"/migrations/{path}")
            assert page.status_code == 200, path
            assert "mr-own" in page.content.decode()
        assert is_fresh(client)
    assert "mr-own" not in client.get("/migrations/").content.decode()


def test_a_member_of_staff_has_the_rights_of_the_tables_of_permissions():
    """The rights are read as usual."""
    client = signed_in(user("plan"))
    with without_column("last_name"):
        assert client.get(STATUS).status_code == 200
        answer = client.post(RUNS, {}, content_type="application/json")
        assert answer.json()["detail"] == "'ada' lacks the permission 'apply'."


def test_without_the_tables_of_permissions_only_superusers_have_rights():
    """Everyone else is denied, with the reason."""
    client = signed_in(user("plan"))
    boss = Client()
    boss.force_login(User.objects.create_superuser("boss"))
    with without_column("last_name"), without_table("auth_user_user_permissions"):
        answer = client.get(STATUS)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "tables of permissions" in answer.json()["detail"]
        assert client.get("/migrations/").status_code == 403
        assert boss.get(STATUS).status_code == 200


@pytest.mark.parametrize("column", ["is_active", "is_staff", "username", "password", "id"])
def test_what_a_login_rests_on_has_to_be_there(column):
    """Without it no user is recognized, and no response is a 500."""
    client = signed_in_with_a_password()
    if column == "id" and connection.vendor == "mysql":
        pytest.skip("MariaDB does not rename a column that foreign keys lead to")
    with without_column(column):
        answer = client.get(STATUS)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        page = client.get("/migrations/")
        assert page.status_code == 503
        assert "Sign-in unavailable" in page.content.decode()
        assert client.post("/migrations/apply/").status_code == 503
        assert client.post(RUNS, {}, content_type="application/json").status_code == 401


@pytest.mark.parametrize(
    ("fields", "status"), [({"is_active": False}, 401), ({"is_staff": False}, 403)]
)
def test_who_is_no_longer_active_or_staff_is_turned_away(fields, status):
    """The current row counts."""
    client = signed_in_with_a_password()
    User.objects.update(**fields)
    with without_column("last_name"):
        assert client.get(STATUS).status_code == status


def test_a_session_from_before_a_new_password_is_worth_nothing():
    """As in Django."""
    client = signed_in_with_a_password()
    ada = User.objects.get()
    ada.set_password("another")
    ada.save()
    with without_column("last_name"):
        assert client.get(STATUS).status_code == 401


def test_a_back_end_that_decides_itself_is_not_gone_round(settings):
    """Its own code may deny, and it cannot be called."""
    path = f"{__name__}.Strict"
    settings.AUTHENTICATION_BACKENDS = [path]
    client = Client()
    client.force_login(User.objects.create_superuser("ada", "a@example.com"), path)
    assert client.get(STATUS).status_code == 200
    with without_column("last_name"):
        assert client.get(STATUS).status_code == 401


def test_a_session_of_a_back_end_that_is_no_more_is_worth_nothing(settings):
    """As in Django."""
    client = signed_in_with_a_password()
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Strict"]
    with without_column("last_name"):
        assert client.get(STATUS).status_code == 401


def test_a_stale_login_is_asked_for_its_password_all_the_same():
    """Django's backend cannot load the user; the hash that was read decides."""
    client = signed_in_with_a_password()
    grow_old(client)
    with without_column("last_name"):
        page = client.post("/migrations/apply/")
        assert page.status_code == 403
        assert "Password for ada" in page.content.decode()
        wrong = client.post("/migrations/apply/", {FIELD: "wrong"})
        assert "is wrong" in wrong.content.decode()
        assert not is_fresh(client)
        assert (
            client.post("/migrations/apply/", {FIELD: PASSWORD}).status_code == 428
        )  # only the fingerprint is missing: the password was correct
        assert is_fresh(client)


def test_the_api_renews_a_login_all_the_same():
    client = signed_in_with_a_password()
    grow_old(client)
    words: dict[str, Any] = {"content_type": "application/json"}
    with without_column("last_name"):
        assert client.post(AGAIN, {"password": "wrong"}, **words).status_code == 403
        assert client.post(AGAIN, {"password": PASSWORD}, **words).status_code == 204
        assert is_fresh(client)


def test_a_transaction_around_the_request_is_not_spoilt():
    """Some middleware opens one: later queries in it still work."""
    client = signed_in_with_a_password()
    with without_column("last_name"), transaction.atomic():
        assert client.get(STATUS).status_code == 200
        assert client.get("/migrations/").status_code == 200
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM auth_group")
            assert cursor.fetchone() == (0,)


def test_a_column_that_comes_in_this_moment_is_no_harm(monkeypatch):
    """Django reads a table twice, and fails when the first read was too early."""
    client = signed_in_with_a_password()
    looks = []
    usual = type(connection.introspection).get_table_description

    def too_early(self, cursor, table):
        looks.append(table)
        if len(looks) == 1:
            raise KeyError("department")
        return usual(self, cursor, table)

    monkeypatch.setattr(type(connection.introspection), "get_table_description", too_early)
    with without_column("last_name"):
        assert client.get(STATUS).status_code == 200
    assert len(looks) == 2


def test_the_columns_that_exist_are_read_and_no_others(django_assert_num_queries):
    """The returned user defers the missing column."""
    from migration_route.access.sessions import with_partial_user

    client = signed_in_with_a_password()
    request = client.get(STATUS).wsgi_request
    with without_column("last_name"):
        deferred = with_partial_user(request, lambda found: found.get_deferred_fields())
    assert deferred == {"last_name"}
