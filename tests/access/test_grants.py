"""Tests of a user's rights on each database."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from migration_route.access.actors import grants_of
from migration_route.conf import read_settings
from migration_route.conf.databases import Target
from migration_route.core.enums import Action, Scope
from migration_route.ledger import runs
from migration_route.ledger.bootstrap import install
from migration_route.ledger.entries import Draft, write_if_possible
from tests.access.test_sessions import signed_in, user
from tests.factories import a_new_run

pytestmark = pytest.mark.usefixtures("database")

API = "/migrations/api/v1/"


class ByDatabase(BaseBackend):
    """A backend that checks objects: a user who may read may apply on `other`."""

    def has_perm(self, user_obj, perm, obj=None):
        """Grant one right on one database."""
        if not isinstance(obj, Target):
            return False
        return perm == "migration_route.apply" and obj.alias == "other"


@pytest.fixture
def only_dba(settings):
    """Restrict `default` to a group."""
    databases = {"default": {"groups": ["dba"]}}
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "DATABASES": databases}


@pytest.fixture
def by_database(settings):
    """Add an authentication backend of the project."""
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        f"{__name__}.ByDatabase",
    ]


def in_group(made: User, name: str) -> User:
    """Add a user to a group."""
    made.groups.add(Group.objects.create(name=name))
    return made


def login(made: User) -> Client:
    """Sign in with Django's own backend."""
    client = Client()
    client.force_login(made, "django.contrib.auth.backends.ModelBackend")
    return client


def test_without_anything_set_a_right_counts_everywhere():
    """As for Django's permissions."""
    granted = grants_of(user("apply"))
    assert granted.scopes == {Scope.APPLY}
    assert (granted.scopes_on, granted.databases) == ({}, None)


def test_a_database_of_a_group_is_neither_seen_nor_touched_by_others(only_dba, a_ledger):
    """Neither its plan, its runs nor its entries, nor in the admin."""
    made = user("view_run", "apply", "view_entry")
    client = signed_in(made)
    seen = client.get(f"{API}status").json()["databases"]
    assert [found["database"] for found in seen] == ["other"]
    assert client.get(f"{API}plan").status_code == 403
    assert client.get(f"{API}plan?database=other").status_code == 200
    assert client.get(f"{API}runs").json()["runs"] == []
    assert client.get(f"{API}runs/{a_ledger}").status_code == 403
    entries = client.get(f"{API}ledger").json()["entries"]
    assert {entry["database"] for entry in entries} <= {"other"}
    asked = client.post(f"{API}runs", {"fingerprint": "x"}, content_type="application/json")
    assert (asked.status_code, asked.json()["code"]) == (403, "forbidden")
    page = client.get("/migrations/").content.decode()
    assert ("database=other" in page, "database=default" in page) == (True, False)
    page = client.get("/admin/migration_route/run/").content.decode()
    assert a_ledger not in page
    assert "0 runs" in page


def test_the_members_of_its_group_see_and_touch_it(only_dba, a_ledger):
    """The right is still required: the group alone grants none."""
    client = signed_in(in_group(user("view_run"), "dba"))
    assert len(client.get(f"{API}status").json()["databases"]) == 2
    assert client.get(f"{API}runs/{a_ledger}").status_code == 200
    assert a_ledger in client.get("/admin/migration_route/run/").content.decode()
    asked = client.post(f"{API}runs", {"fingerprint": "x"}, content_type="application/json")
    assert asked.json()["detail"] == "'ada' lacks the permission 'apply'."


def test_another_group_does_not_help(only_dba):
    """Groups are compared by name."""
    client = signed_in(in_group(user("view_run"), "dbas"))
    assert client.get(f"{API}plan").status_code == 403


def test_a_superuser_is_in_every_group(only_dba):
    """They could add themselves to it."""
    client = signed_in(User.objects.create_superuser("root"))
    assert client.get(f"{API}plan").status_code == 200


def test_an_empty_list_of_groups_is_for_superusers(settings):
    databases: dict[str, Any] = {"default": {"groups": []}}
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "DATABASES": databases}
    assert signed_in(user("plan")).get(f"{API}plan").status_code == 403


def test_a_token_is_in_no_group_and_needs_none(only_dba):
    """Tokens have their own list of databases."""
    header = {"Authorization": "Bearer reader-secret"}
    seen = Client().get(f"{API}status", headers=header).json()["databases"]
    assert len(seen) == 2


@pytest.mark.parametrize("wrong", ["dba", 5, [""], [1], {"dba": True}])
def test_groups_that_cannot_be_read_are_told_and_shut(wrong):
    """An invalid setting allows superusers only."""
    found = read_settings({"DATABASES": {"default": {"groups": wrong}}})
    if wrong == {"dba": True}:
        wrong = dict(wrong)
    assert any("'groups' must be a list of group names" in text for text in found.problems)
    assert found.database("default").groups == frozenset()


def test_a_back_end_of_the_project_decides_for_a_database(by_database):
    """It is called with a `Target`; a right on one database applies to that one only."""
    made = user("plan")
    granted = grants_of(made)
    assert granted.scopes == {Scope.PLAN}
    assert granted.scopes_on == {"other": {Scope.APPLY}}
    client = login(made)

    def ask(database: str):
        body = {"database": database}
        return client.post(f"{API}runs", body, content_type="application/json").json()

    assert ask("other")["code"] == "fingerprint_required"
    assert ask("default")["detail"] == (
        "'ada' lacks the permission 'apply' on the database 'default'."
    )


def test_who_may_on_one_database_alone_sees_that_one_alone(by_database, a_ledger):
    """The right implies reading, on that database."""
    client = login(user())
    seen = client.get(f"{API}status").json()["databases"]
    assert [found["database"] for found in seen] == ["other"]
    assert client.get(f"{API}plan").status_code == 403
    assert client.get(f"{API}plan?database=other").status_code == 200
    assert client.get(f"{API}runs").json()["runs"] == []
    entries = client.get(f"{API}ledger").json()["entries"]
    assert [entry["database"] for entry in entries] == ["other"]


@pytest.fixture
def a_ledger(database):
    """Record a run and entries of both databases; return the id of the run."""
    install()
    run, _ = runs.create_run(a_new_run(database="default"))
    write_if_possible(Draft(action=Action.REFUSED, database="other"))
    return run.id


def test_permissions_may_come_from_a_group():
    """As usual in Django."""
    made = in_group(user(), "readers")
    group = Group.objects.get()
    group.permissions.add(Permission.objects.get(codename="plan"))
    assert grants_of(User.objects.get(pk=made.pk)).scopes == {Scope.PLAN}
