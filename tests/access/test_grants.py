"""What may a person do on which database?"""

from __future__ import annotations

import pytest
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from migration_route.access.actors import granted_to
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
    """A back end that decides for objects: whoever may read may apply on `other`."""

    def has_perm(self, user_obj, perm, obj=None):
        """Say yes to one right on one database."""
        if not isinstance(obj, Target):
            return False
        return perm == "migration_route.apply" and obj.alias == "other"


@pytest.fixture
def only_dba(settings):
    """Keep `default` to a group."""
    databases = {"default": {"groups": ["dba"]}}
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "DATABASES": databases}


@pytest.fixture
def by_database(settings):
    """Let a back end of the project decide as well."""
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        f"{__name__}.ByDatabase",
    ]


def in_group(made: User, name: str) -> User:
    """Put a user into a group."""
    made.groups.add(Group.objects.create(name=name))
    return made


def login(made: User) -> Client:
    """Sign in by Django's own back end."""
    client = Client()
    client.force_login(made, "django.contrib.auth.backends.ModelBackend")
    return client


def test_without_anything_set_a_right_counts_everywhere():
    """As Django's permissions have it."""
    granted = granted_to(user("apply"))
    assert granted.scopes == {Scope.APPLY}
    assert (granted.scopes_on, granted.databases) == ({}, None)


def test_a_database_of_a_group_is_neither_seen_nor_touched_by_others(only_dba, a_ledger):
    """Not its plan, not its runs, not its entries, not in the admin."""
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
    """With the right, as ever: the group alone gives none."""
    client = signed_in(in_group(user("view_run"), "dba"))
    assert len(client.get(f"{API}status").json()["databases"]) == 2
    assert client.get(f"{API}runs/{a_ledger}").status_code == 200
    assert a_ledger in client.get("/admin/migration_route/run/").content.decode()
    asked = client.post(f"{API}runs", {"fingerprint": "x"}, content_type="application/json")
    assert asked.json()["detail"] == "'ada' lacks the right 'apply'."


def test_another_group_does_not_help(only_dba):
    """It is the name that counts."""
    client = signed_in(in_group(user("view_run"), "dbas"))
    assert client.get(f"{API}plan").status_code == 403


def test_a_superuser_is_in_every_group(only_dba):
    """They could put themselves into it."""
    client = signed_in(User.objects.create_superuser("root"))
    assert client.get(f"{API}plan").status_code == 200


def test_an_empty_list_of_groups_is_for_superusers(settings):
    """Nobody else."""
    databases = {"default": {"groups": []}}
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "DATABASES": databases}
    assert signed_in(user("plan")).get(f"{API}plan").status_code == 403


def test_a_token_is_in_no_group_and_needs_none(only_dba):
    """Tokens have their own list of databases."""
    header = {"Authorization": "Bearer reader-secret"}
    seen = Client().get(f"{API}status", headers=header).json()["databases"]
    assert len(seen) == 2


@pytest.mark.parametrize("wrong", ["dba", 5, [""], [1], {"dba": True}])
def test_groups_that_cannot_be_read_are_told_and_shut(wrong):
    """A guard with a typing error lets nobody in but superusers."""
    found = read_settings({"DATABASES": {"default": {"groups": wrong}}})
    if wrong == {"dba": True}:
        wrong = dict(wrong)
    assert any("'groups' must list names of groups" in text for text in found.problems)
    assert found.database("default").groups == frozenset()


def test_a_back_end_of_the_project_decides_for_a_database(by_database):
    """It is asked with a `Target`; a right that holds on one database holds there
    alone."""
    made = user("plan")
    granted = granted_to(made)
    assert granted.scopes == {Scope.PLAN}
    assert granted.scopes_on == {"other": {Scope.APPLY}}
    client = login(made)

    def ask(database: str):
        body = {"database": database}
        return client.post(f"{API}runs", body, content_type="application/json").json()

    assert ask("other")["code"] == "fingerprint_required"
    assert ask("default")["detail"] == (
        "'ada' lacks the right 'apply' on the database 'default'."
    )


def test_who_may_on_one_database_alone_sees_that_one_alone(by_database, a_ledger):
    """The right brings reading along, there."""
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
    """Put a run and entries of both databases on record; give the id of the run."""
    install()
    run, _ = runs.create_run(a_new_run(database="default"))
    write_if_possible(Draft(action=Action.REFUSED, database="other"))
    return run.id


def test_permissions_may_come_from_a_group():
    """Django's own way."""
    made = in_group(user(), "readers")
    group = Group.objects.get()
    group.permissions.add(Permission.objects.get(codename="plan"))
    assert granted_to(User.objects.get(pk=made.pk)).scopes == {Scope.PLAN}
