"""Tests of the view `perform_migration` as in the contract."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client

from migration_route.core.enums import RunState
from migration_route.ledger import runs
from tests.access.test_sessions import signed_in, user
from tests.execution.runs import Keeper
from tests.factories import a_new_run, tables


@pytest.fixture(autouse=True)
def _inline(history, project, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()


def perform(client: Client):
    """POST to the view."""
    return client.post("/perform/")


def staff() -> Client:
    """Return a client of a staff member with the right to apply."""
    return signed_in(user("apply"))


def test_what_is_pending_is_applied_and_then_nothing_is(history):
    """200 both times; the body says what happened."""
    history.table("0001_a", "made_a")
    client = staff()
    first, second = perform(client), perform(client)
    assert (first.status_code, first.json()["state"]) == (200, "succeeded")
    assert (second.status_code, second.json()["state"]) == (200, "noop")
    assert first.json()["requested_by"] == {"kind": "user", "name": "ada"}
    assert "made_a" in tables()


def test_what_fails_is_500(history):
    """With the run and its error."""
    history.python("0001_a", "raise LookupError('no such thing')")
    answer = perform(staff())
    assert (answer.status_code, answer.json()["state"]) == (500, "failed")
    assert answer.json()["steps"][0]["error"]["message"] == "no such thing"


def test_what_is_still_running_is_202(history, settings):
    """The view waits only as long as it may."""
    history.table("0001_a", "made_a")
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": "tests.execution.runs.Keeper",
        "MAX_REQUEST_WAIT": "100ms",
    }
    answer = perform(staff())
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert Keeper.kept is not None


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.PARTIAL])
def test_what_is_refused_is_409(history, state):
    """Another run is active."""
    history.table("0001_a", "made_a")
    run, _ = runs.create_run(a_new_run())
    if state is not RunState.QUEUED:
        runs.move(run.id, to=state, expected={RunState.QUEUED})
    answer = perform(staff())
    assert answer.status_code == 409
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["run"] == run.id


@pytest.mark.parametrize(
    "who", ["nobody", "a customer", "staff without the right", "no CSRF"]
)
def test_who_may_not_is_403(history, who):
    """The response is the same for everyone."""
    history.table("0001_a", "made_a")
    client = Client()
    if who == "a customer":
        client.force_login(User.objects.create_user("eve"))
    elif who == "staff without the right":
        client = signed_in(user("view_run"))
    elif who == "no CSRF":
        client = signed_in(user("apply"), enforce_csrf_checks=True)
    answer = perform(client)
    assert answer.status_code == 403
    assert json.loads(answer.content)["code"] in {"forbidden", "csrf_failed"}
    assert "made_a" not in tables()


def test_a_link_applies_nothing(history):
    """GET is 405."""
    assert staff().get("/perform/").status_code == 405
