"""Does the admin show runs and entries, and change nothing?"""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest
from django.test import Client
from django.urls import reverse

from migration_route.ledger.records import RunRecord
from tests.web.conftest import SignIn


@pytest.fixture
def superuser(sign_in: SignIn) -> Client:
    """Return the browser of a superuser: not even they may change the ledger."""
    return sign_in(is_superuser=True)


@pytest.mark.parametrize("model", ["run", "entry"])
def test_rows_are_listed_and_shown(
    superuser: Client, a_run: Callable[..., RunRecord], model: str
) -> None:
    """List, filter, search, look."""
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
    """Where it can be watched."""
    run = a_run()
    answer = superuser.get(reverse("admin:migration_route_run_change", args=(run.id,)))
    assert f"/migrations/runs/{run.id}/" in answer.content.decode()


def test_a_list_without_a_ledger_says_so(superuser: Client) -> None:
    """Instead of an error about a missing table."""
    with patch("migration_route.admin.is_installed", return_value=False):
        answer = superuser.get(reverse("admin:migration_route_run_changelist"), follow=True)
    assert answer.status_code == 200
    assert b"not installed yet" in answer.content
