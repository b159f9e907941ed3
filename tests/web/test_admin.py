"""Tests that the admin shows runs and entries, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from migration_route.core.enums import ActorKind
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger import runs
from migration_route.ledger.approvals import ApprovalVote, record_approval
from migration_route.ledger.records import RunRecord
from migration_route.models import Approval, Entry, Run
from tests.factories import a_new_run
from tests.web.conftest import SignIn


@pytest.fixture
def superuser(sign_in: SignIn) -> Client:
    """Return a client of a superuser, who may not change the ledger either."""
    return sign_in(is_superuser=True)


@pytest.mark.parametrize("model", ["run", "entry"])
def test_rows_are_listed_and_shown(
    superuser: Client, a_run: Callable[..., RunRecord], model: str
) -> None:
    """List, filter, search, view."""
    run = a_run()
    key = run.id if model == "run" else 1
    name = f"admin:migration_route_{model}"
    assert superuser.get(reverse(f"{name}_changelist"), {"q": run.id}).status_code == 200
    answer = superuser.get(reverse(f"{name}_change", args=(key,)))
    assert answer.status_code == 200
    assert b'name="_save"' not in answer.content


@pytest.mark.parametrize("model", ["run", "entry"])
def test_nothing_is_added_changed_or_deleted(
    superuser: Client, a_run: Callable[..., RunRecord], model: str
) -> None:
    """Not even by a superuser."""
    run = a_run()
    key = run.id if model == "run" else 1
    name = f"admin:migration_route_{model}"
    assert superuser.post(reverse(f"{name}_add"), {}).status_code == 403
    assert superuser.post(reverse(f"{name}_change", args=(key,)), {}).status_code == 403
    assert superuser.post(reverse(f"{name}_delete", args=(key,)), {}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [str(key)], "post": "yes"}
    superuser.post(reverse(f"{name}_changelist"), form)
    assert superuser.get(reverse(f"{name}_change", args=(key,))).status_code == 200


def test_a_run_leads_to_its_page(
    superuser: Client, a_run: Callable[..., RunRecord]
) -> None:
    """There it can be watched."""
    run = a_run()
    answer = superuser.get(reverse("admin:migration_route_run_change", args=(run.id,)))
    assert f"/migrations/runs/{run.id}/" in answer.content.decode()


def test_a_list_without_a_ledger_says_so(superuser: Client) -> None:
    """Instead of an error about a missing table."""
    with patch("migration_route.admin.is_installed", return_value=False):
        answer = superuser.get(reverse("admin:migration_route_run_changelist"), follow=True)
    assert answer.status_code == 200
    assert b"not installed yet" in answer.content


@pytest.fixture
def two_approvals(database: None) -> dict[str, RunRecord]:
    """Record an approved run for each of the two databases."""
    found = {}
    for alias in ("default", "other"):
        requirement = ApprovalRequirement(
            required=2, rule="always", why="the test asks for it"
        )
        run, _ = runs.create_run(
            a_new_run(
                database=alias,
                approval_requirement=requirement,
                reason=f"reason-of-{alias}",
            )
        )
        saying = ApprovalVote(
            actor_kind=ActorKind.USER,
            actor_name=f"approver-of-{alias}",
            actor_key=f"approver-of-{alias}",
            address="192.0.2.1",
            permissions=frozenset({"approve"}),
            reason=f"reason-of-{alias}",
        )
        found[alias] = record_approval(
            run.id, saying, approval_requirement=requirement, until=run.waiting_until
        )
    return found


def _keys(model: str, alias: str, run: RunRecord) -> list[str]:
    rows = {"run": Run, "entry": Entry, "approval": Approval}[model]._default_manager
    if model == "run":
        return [run.id]
    return [str(row.pk) for row in rows.filter(run=run.id)]


@pytest.mark.parametrize("model", ["run", "entry", "approval"])
@pytest.mark.parametrize("who", ["superuser", "view-only", "limited"])
def test_staff_see_the_rows_of_the_databases_they_may_touch(
    settings: Any, two_approvals: dict[str, RunRecord], model: str, who: str
) -> None:
    """In the list, by filter and search, on the page of a row and in its history."""
    databases = {"default": {"groups": ["dba"]}, "other": {"groups": ["others"]}}
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "DATABASES": databases}
    user = User.objects.create_user("eve", is_staff=True, is_superuser=who == "superuser")
    user.user_permissions.set(
        Permission.objects.filter(
            content_type__app_label="migration_route", codename=f"view_{model}"
        )
    )
    user.groups.add(Group.objects.create(name="others"))
    if who == "view-only":
        user.groups.add(Group.objects.create(name="dba"))
    client = Client()
    client.force_login(user)
    name = f"admin:migration_route_{model}"
    shown = {"other"} if who == "limited" else {"default", "other"}
    for alias, run in two_approvals.items():
        is_shown = alias in shown
        queries: list[dict[str, str]] = [{}, {"q": run.id}]
        if model != "approval":
            queries.append({"database": alias})
        for query in queries:
            answer = client.get(reverse(f"{name}_changelist"), query)
            assert answer.status_code == 200
            listed = answer.context["cl"].result_list
            ours = [row for row in listed if run.id in {getattr(row, "run", ""), row.pk}]
            assert bool(ours) is is_shown, query
        for key in _keys(model, alias, run):
            for page in ("change", "history"):
                answer = client.get(reverse(f"{name}_{page}", args=(key,)))
                assert answer.status_code == (200 if is_shown else 302)


@pytest.mark.parametrize("model", ["run", "entry", "approval"])
def test_a_row_without_a_ledger_leads_back_to_the_index(
    superuser: Client, empty_database: str, model: str
) -> None:
    """An empty database causes no server error."""
    name = f"admin:migration_route_{model}"
    assert superuser.get(reverse(f"{name}_changelist")).status_code == 302
    for page in ("change", "history"):
        answer = superuser.get(reverse(f"{name}_{page}", args=("1",)))
        assert answer.status_code == 302


def test_the_index_of_the_app_leads_to_the_pages(everyone_can: Client) -> None:
    """The pages are not models, so the admin does not list them itself."""
    answer = everyone_can.get(reverse("admin:app_list", args=["migration_route"]))
    assert answer.status_code == 200
    assert f'<a href="{reverse("migration_route:dashboard")}">' in answer.content.decode()
