"""Tests of signed-in staff and of CSRF protection."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from migration_route.core.enums import Scope

pytestmark = pytest.mark.usefixtures("database")

STATUS, RUNS = "/migrations/api/v1/status", "/migrations/api/v1/runs"


def user(*permissions: str, **fields: Any) -> User:
    """Return a user with these permissions of this package."""
    made = User.objects.create_user("ada", **{"is_staff": True, **fields})
    found = Permission.objects.filter(
        content_type__app_label="migration_route", codename__in=permissions
    )
    assert found.count() == len(permissions)
    made.user_permissions.set(found)
    return made


def signed_in(made: User, **words: Any) -> Client:
    """Return a client in which this user is signed in."""
    client = Client(**words)
    client.force_login(made)
    return client


def test_a_member_of_staff_with_the_right_may_read():
    """The permission `view_run` is the right to read."""
    assert signed_in(user("view_run")).get(STATUS).status_code == 200


def test_a_superuser_has_every_right():
    """As in Django."""
    made = User.objects.create_superuser("root")
    assert signed_in(made).get(STATUS).status_code == 200


@pytest.mark.parametrize(
    ("fields", "permissions", "status"),
    [
        ({"is_staff": False}, ["view_run"], 403),
        ({"is_active": False}, ["view_run"], 401),
        ({}, [], 403),
        ({}, ["operate"], 200),
    ],
)
def test_who_is_not_staff_or_lacks_the_right_is_turned_away(fields, permissions, status):
    """Neither a permission without staff nor staff without a permission is enough."""
    assert signed_in(user(*permissions, **fields)).get(STATUS).status_code == status


@pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.READ])
def test_every_right_but_reading_has_a_permission_of_its_name(scope):
    """Permissions have the same names as the scopes of tokens."""
    assert Permission.objects.filter(
        content_type__app_label="migration_route", codename=scope
    ).exists()


def test_nobody_is_unauthenticated():
    """Without a session the response is 401, and says how to sign in."""
    answer = Client().get(STATUS)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_change_needs_the_csrf_token():
    """A form on another site sends the cookie, but not the token."""
    client = signed_in(user("apply"), enforce_csrf_checks=True)
    answer = client.post(RUNS, {}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
    assert client.get(STATUS).status_code == 200


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("MULTIPART/FORM-DATA", (400, "invalid_request")),
        ("multipart/form-data", (400, "invalid_request")),
        ("multipart/form-data; boundary=", (400, "invalid_request")),
        ("multipart/form-data; boundary=x", (403, "csrf_failed")),  # an empty form
    ],
)
def test_a_form_that_cannot_be_read_is_told_not_raised(kind, told):
    """It might have contained the CSRF token."""
    client = signed_in(user("apply"), enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "x" * 32
    answer = client.generic("POST", RUNS, b"\x00", content_type=kind)
    assert (answer.status_code, answer.json()["code"]) == told


def test_a_change_with_the_csrf_token_passes():
    """A page of this site has the cookie and sends the header."""
    client = signed_in(user("apply"), enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "a" * 32
    answer = client.post(
        RUNS, {}, content_type="application/json", headers={"X-CSRFToken": "a" * 32}
    )
    assert (answer.status_code, answer.json()["code"]) == (428, "fingerprint_required")


def test_a_token_needs_no_csrf_token():
    """No browser sends it automatically."""
    answer = Client(enforce_csrf_checks=True).post(
        RUNS,
        {},
        content_type="application/json",
        headers={"Authorization": "Bearer deployer-secret"},
    )
    assert answer.json()["code"] == "fingerprint_required"


def test_a_wrong_token_does_not_fall_back_to_the_session():
    """A request with a token is judged by the token only."""
    client = signed_in(user("view_run"))
    answer = client.get(STATUS, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


@pytest.mark.parametrize("table", ["django_session", "auth_user"])
def test_tables_that_cannot_be_read_are_told_not_raised(table):
    """The pending migration may be that of the user table."""
    client = signed_in(user("view_run"))
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO moved_away")
    try:
        answer = client.get(STATUS)
        by_token = Client().get(STATUS, headers={"Authorization": "Bearer reader-secret"})
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE moved_away RENAME TO {table}")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert "token" in answer.json()["hint"]
    assert by_token.status_code == 200
