"""Tests that a cancelled run names its canceller and the reason wherever it is shown."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from migration_route.core.enums import RunState, StepState
from migration_route.ledger import runs
from migration_route.ledger.step_evidence import StepError
from migration_route.services.control import cancel
from tests.factories import a_new_run, an_actor

pytestmark = pytest.mark.usefixtures("database")

REASON = "the <release> was called off"
INTERRUPTIONS = [
    StepError(type="KeyboardInterrupt", message="", operation=1),
    StepError(
        type="django.db.utils.OperationalError",
        message="canceling statement due to user request",
        operation=1,
        sqlstate="57014",
    ),
    StepError(
        type="django.db.utils.OperationalError",
        message="(1317, 'Query execution was interrupted')",
        operation=1,
    ),
    StepError(type="django.db.utils.OperationalError", message="interrupted", operation=1),
]


@pytest.fixture
def person(settings: Any) -> Client:
    """A signed-in superuser."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "REAUTHENTICATION": None,
        "HEARTBEAT_TIMEOUT": "1h",
    }
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def cancelled_run(error: StepError, end: RunState = RunState.CANCELLED) -> str:
    """Return a run that was cancelled while it was running, and the error of its worker."""
    new, _ = runs.create_run(a_new_run(database="other"))
    for state, before in (
        (RunState.WAITING, RunState.QUEUED),
        (RunState.RUNNING, RunState.WAITING),
    ):
        runs.move(new.id, to=state, expected={before})
    cancel(new.id, an_actor(), reason=REASON)
    is_partial = end is RunState.PARTIAL
    step = replace(
        new.steps[0],
        state=StepState.PARTIAL if is_partial else StepState.FAILED,
        error=error,
    )
    change = runs.Change(outcome=end, steps=(step,), error=error if is_partial else None)
    runs.move(new.id, to=end, expected={RunState.CANCELLING}, change=change)
    return new.id


@pytest.mark.parametrize("error", INTERRUPTIONS, ids=lambda error: error.message or "none")
@pytest.mark.parametrize("end", [RunState.CANCELLED, RunState.PARTIAL])
def test_a_cancelled_run_says_who_cancelled_it_and_why(person, error, end):
    """In the API, on the page and in the command: not the error of the worker."""
    run = cancelled_run(error, end)
    answer = person.get(f"/migrations/api/v1/runs/{run}").json()
    for found in (answer["error"], answer["steps"][0]["error"]):
        assert found["type"] == "Cancelled"
        assert "by ada (user)" in found["message"]
        assert found["message"].endswith(REASON)
    assert answer["steps"][0]["error"]["operation"] == 1
    page = person.get(f"/migrations/runs/{run}/").content.decode()
    assert "Cancelled by ada (user)" in page
    assert "the &lt;release&gt; was called off" in page
    shown = StringIO()
    call_command("migration_route", "show", run, stdout=shown)
    for text in (page, shown.getvalue()):
        assert "KeyboardInterrupt" not in text
        assert "OperationalError" not in text
    assert "Cancelled by ada (user) at" in shown.getvalue()
    assert REASON in shown.getvalue()


def test_an_error_of_the_migration_itself_stays(person):
    """A step that failed while it was being cancelled keeps its own error."""
    error = StepError(type="ValueError", message="no such colour", operation=0)
    answer = person.get(f"/migrations/api/v1/runs/{cancelled_run(error)}").json()
    assert answer["steps"][0]["error"]["type"] == "ValueError"
    assert answer["error"]["type"] == "Cancelled"
