"""Tests that the effect of a cancel on the current step is shown beside the button."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from migration_route.core.enums import RunState, StepState
from migration_route.ledger import runs
from migration_route.models import Entry
from tests.factories import a_new_run, a_step_record

pytestmark = pytest.mark.usefixtures("database")

CASES = {
    "rolled back": (
        (StepState.APPLIED, True),
        (StepState.APPLYING, True),
        "rolls the step back as a whole",
    ),
    "not rolled back": (
        (StepState.APPLIED, True),
        (StepState.APPLYING, False),
        "can be left partially applied",
    ),
    "a later step is not rolled back": (
        (StepState.APPLYING, True),
        (StepState.NOT_STARTED, False),
        "rolls the step back as a whole",
    ),
    "between two steps": (
        (StepState.APPLIED, True),
        (StepState.NOT_STARTED, False),
        "No step is running: the run ends before testapp.0003_b",
    ),
}


@pytest.fixture
def person(settings: Any) -> Client:
    """A signed-in superuser."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "REAUTHENTICATION": None,
        "HEARTBEAT_TIMEOUT": "1h",
    }
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def running(*steps: tuple[StepState, bool]) -> str:
    """Return a running run, with its steps in these states."""
    records = tuple(
        replace(a_step_record(name), state=state, rolls_back=rolls_back)
        for name, (state, rolls_back) in zip(("0002_a", "0003_b"), steps, strict=True)
    )
    run, _ = runs.create_run(a_new_run(database="other", steps=records))
    for to, before in (
        (RunState.WAITING, RunState.QUEUED),
        (RunState.RUNNING, RunState.WAITING),
    ):
        change = runs.Change(steps=records)
        runs.move(run.id, to=to, expected={before}, change=change)
    return run.id


@pytest.mark.parametrize("case", CASES)
def test_a_cancel_says_what_becomes_of_the_step_that_is_running(person, case):
    """On the page in advance, and in the command when it is requested."""
    first, second, words = CASES[case]
    run = running(first, second)
    page = unescape(person.get(f"/migrations/runs/{run}/").content.decode())
    assert words in page
    others = {other[2] for other in CASES.values()} - {words}
    assert not [other for other in others if other in page]
    said = StringIO()
    call_command("migration_route", "cancel", run, "--reason", "late", stdout=said)
    assert words in said.getvalue()


@pytest.mark.parametrize("verb", ["cancel", "approve", "resolve", "pause"])
@pytest.mark.parametrize("who", ["deployer", "reader"])
def test_a_refused_entry_carries_the_database_of_its_run(person, verb, who):
    """Also where the URL names a run only: filtering by database finds the entry."""
    run = running(*CASES["rolled back"][:2])
    runs.move(run, to=RunState.CANCELLED, expected={RunState.RUNNING})
    answer = Client().post(
        f"/migrations/api/v1/runs/{run}/{verb}",
        {"reason": "why not"},
        content_type="application/json",
        headers={"Authorization": f"Bearer {who}-secret"},
    )
    assert answer.status_code in {403, 409}, answer.content
    entry = Entry.objects.order_by("-sequence")[0]
    assert entry.action in {"denied", "refused"}
    assert (entry.run, entry.database) == (run, "other")
