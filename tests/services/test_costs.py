"""Tests that the cost of a list does not depend on its length."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from migration_route.core.enums import Action, ActorKind, RunState
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger import queries as ledger_queries
from migration_route.ledger import runs
from migration_route.ledger.entries import Draft, write_if_possible
from migration_route.models import Approval, Entry, Run
from migration_route.planning.planner import make_plan
from migration_route.services import plans as looking
from migration_route.services import plans as planning
from tests.factories import a_new_run

pytestmark = pytest.mark.usefixtures("database")

LENGTHS = (1, 10, 100)


def ended_runs(count: int) -> None:
    """Create that many ended runs, each with approvals by two users."""
    requirement = ApprovalRequirement(required=2, rule="APPROVALS", why="the test says so")
    new, _ = runs.create_run(a_new_run(approval_requirement=requirement))
    runs.move(new.id, to=RunState.EXPIRED, expected={RunState.AWAITING_APPROVAL})
    row = Run.objects.get(pk=new.id)
    for number in range(count):
        row.pk = f"{number:032x}"
        row.save(force_insert=True)
    Run.objects.filter(pk=new.id).delete()
    Approval.objects.bulk_create(
        Approval(
            run=f"{number:032x}",
            fingerprint=row.fingerprint,
            decision="approve",
            actor_kind="user",
            actor_name=name,
            actor_key=name,
            permissions='["approve"]',
            reason=f"{name} of {number}",
            at=row.created_at,
        )
        for number in range(count)
        for name in ("grace", "barbara")
    )


@pytest.fixture
def person(settings: Any) -> Client:
    """A signed-in superuser."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "REAUTHENTICATION": None}
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def queries(client: Client, address: str) -> tuple[int, Any]:
    """Return the number of queries of a response, and the response."""
    client.get(address)  # what the first request caches does not count
    with ExitStack() as stack:
        seen = [
            stack.enter_context(CaptureQueriesContext(connections[alias]))
            for alias in connections
        ]
        answer = client.get(address)
    assert answer.status_code == 200, answer.content
    return sum(map(len, seen)), answer


@pytest.mark.parametrize(
    "address",
    [
        "/migrations/api/v1/runs?limit=100",
        "/migrations/runs/",
        "/migrations/",
        "/admin/migration_route/run/",
        "/admin/migration_route/approval/",
        "/admin/migration_route/entry/",
    ],
)
def test_a_list_takes_as_many_queries_for_a_hundred_runs_as_for_one(person, address):
    """Approvals are read for all runs of a page at once."""
    counts = []
    for length in LENGTHS:
        Run.objects.all().delete()
        Approval.objects.all().delete()
        ended_runs(length)
        counts.append(queries(person, address)[0])
    # A paginated list of one page omits a count that a longer one needs.
    assert max(counts) <= counts[0] + 1, dict(zip(LENGTHS, counts, strict=True))
    assert max(counts) < 25


def test_each_run_of_a_list_has_its_own_approvals(person):
    """In order, and none of another run."""
    ended_runs(30)
    _, answer = queries(person, "/migrations/api/v1/runs?limit=100")
    found = json.loads(answer.content)["runs"]
    assert len(found) == 30
    for run in found:
        number = int(run["id"], 16)
        said = [saying["reason"] for saying in run["approval"]["by"]]
        assert said == [f"grace of {number}", f"barbara of {number}"]


def test_the_page_of_a_plan_plans_once(history, person, monkeypatch):
    """Its health, its approvals and its steps come from one plan."""
    history.table("0001_a", "costs_a")
    count = []

    def counted(*words: Any, **named: Any) -> Any:
        count.append(words)
        return make_plan(*words, **named)

    for module in (planning, looking):
        monkeypatch.setattr(module, "make_plan", counted)
    page = person.get("/migrations/plan/")
    assert page.status_code == 200
    assert b"0001_a" in page.content
    assert len(count) == 1


def test_the_last_use_of_a_secret_is_looked_for_in_the_last_entries(person, monkeypatch):
    """An earlier use is not reported as never."""
    write_if_possible(
        Draft(
            action=Action.DENIED,
            actor_kind=ActorKind.TOKEN,
            actor_name="ci",
            facts={"credential": {"id": "abcdef"}},
        )
    )
    ended_runs(1)
    asked = {"kind": ActorKind.TOKEN, "credential": "abcdef"}
    assert (
        ledger_queries.last_credential_use(**asked) == Entry.objects.get(action="denied").at
    )
    monkeypatch.setattr(ledger_queries, "CREDENTIAL_SEARCH_LIMIT", 1)
    assert ledger_queries.last_credential_use(**asked) is None


def test_since_when_steps_are_put_off_is_read_in_batches(person, monkeypatch):
    """The result over many batches equals that over one, without the approvals of the
    runs."""
    left = [{"app": "testapp", "name": "0009_late", "digest": "d", "phase": "after_deploy"}]
    ended_runs(7)
    deferred = json.dumps([{**left[0], "why": "it waits", "build": "first"}])
    Run.objects.update(state=RunState.SUCCEEDED, deferred=deferred, finished_at="2026")
    expected = ledger_queries.first_deferrals("default")
    assert expected == {"testapp.0009_late": ("2026", "first")}
    monkeypatch.setattr(ledger_queries, "_BATCH", 2)
    with CaptureQueriesContext(connections["default"]) as seen:
        assert ledger_queries.first_deferrals("default") == expected
    assert len(seen) == 5
    assert not any("approval" in query["sql"] for query in seen.captured_queries)
