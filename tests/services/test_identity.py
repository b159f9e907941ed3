"""Tests that a user keeps their identity under another name, host or environment."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.test import Client

from migration_route.access.actors import shell_actor
from migration_route.core.enums import Action, RunState
from migration_route.core.errors import Forbidden
from migration_route.ledger.queries import find_run, list_entries
from migration_route.models import Approval
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.approvals import approve, may_approve
from tests.execution.runs import Keeper, plan_to


@pytest.fixture(autouse=True)
def _approvals(history, project, settings):
    """Require the approval of another user for every plan."""
    history.table("0001_a", "made_a")
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": f"{Keeper.__module__}.Keeper",
        "APPROVALS": {"required": 1},
        "REAUTHENTICATION": None,
    }
    project()


def a_user(name: str) -> User:
    """Return a user with every right."""
    return User.objects.create_superuser(name)


def post(user: User, path: str, **body: object):
    """POST to the API as this user's current row."""
    browser = Client()
    browser.force_login(User.objects.get(pk=user.pk))
    return browser.post(
        f"/migrations/api/v1/{path}", json.dumps(body), content_type="application/json"
    )


def asked_by(user: User) -> str:
    """Return the run that a user has requested."""
    fingerprint = plan_to("testapp").fingerprint
    answer = post(user, "runs", targets=["testapp"], fingerprint=fingerprint)
    assert answer.status_code == 202, answer.json()
    run = answer.json()
    assert run["state"] == RunState.AWAITING_APPROVAL
    return str(run["id"])


def test_a_user_who_is_renamed_cannot_approve_their_own_request():
    """Nor does the next user with the old name count as the requester."""
    ada, grace = a_user("ada"), a_user("grace")
    run = asked_by(ada)
    User.objects.filter(pk=ada.pk).update(username="someone-else")
    answer = post(ada, f"runs/{run}/approve")
    assert answer.status_code == 403
    assert "another user" in answer.json()["detail"]
    assert list_entries(before=None, limit=1)[0].action == Action.DENIED
    assert find_run(run).state is RunState.AWAITING_APPROVAL
    User.objects.filter(pk=grace.pk).update(username="ada")
    assert post(grace, f"runs/{run}/approve").json()["state"] == RunState.QUEUED
    (row,) = Approval.objects.all()
    assert (row.actor_name, row.actor_key) == ("ada", str(grace.pk))
    approved = next(e for e in list_entries(before=None, limit=9) if e.action == "approved")
    assert approved.facts["actor_key"] == str(grace.pk)


def test_a_user_who_is_renamed_counts_once(settings):
    """Two approvals belong to two users."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "APPROVALS": {"required": 2}}
    run = asked_by(a_user("ada"))
    grace = a_user("grace")
    assert post(grace, f"runs/{run}/approve").status_code == 200
    User.objects.filter(pk=grace.pk).update(username="mary")
    again = post(grace, f"runs/{run}/approve").json()
    assert again["state"] == RunState.AWAITING_APPROVAL
    assert again["approval"]["given"] == 1
    assert Approval.objects.count() == 1


def test_whoever_asked_may_still_withdraw_under_another_name():
    """It is their own request under any name."""
    ada = a_user("ada")
    run = asked_by(ada)
    User.objects.filter(pk=ada.pk).update(username="someone-else")
    answer = post(ada, f"runs/{run}/cancel", reason="mine")
    assert answer.json()["state"] == RunState.CANCELLED


@pytest.mark.parametrize("variable", ["LOGNAME", "USER", "LNAME", "USERNAME"])
def test_a_shell_cannot_approve_its_own_request_under_another_name(variable):
    """A real process with another name in its environment is the same account."""
    fingerprint = plan_to("testapp").fingerprint
    request = ApplyRequest(targets=("testapp",), fingerprint=fingerprint)
    run = apply(request, shell_actor())
    found = subprocess.run(
        [sys.executable, "-m", "django", "migration_route", "approve", run.id],
        env={**os.environ, variable: "grace"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 4, found.stdout + found.stderr  # not allowed
    assert "another user" in found.stderr + found.stdout
    assert find_run(run.id).state is RunState.AWAITING_APPROVAL


def test_a_shell_on_another_host_is_the_same_account(monkeypatch):
    """The host is displayed, but is not part of the identity."""
    fingerprint = plan_to("testapp").fingerprint
    run = apply(ApplyRequest(targets=("testapp",), fingerprint=fingerprint), shell_actor())
    assert run.actor_name.endswith(f"@{socket.gethostname()}")
    monkeypatch.setattr("socket.gethostname", lambda: "another-host")
    assert shell_actor().name.endswith("@another-host")
    assert not may_approve(run, shell_actor())
    with pytest.raises(Forbidden, match="another user"):
        approve(run.id, shell_actor())
