"""Tests of the ways to resolve a partial run, as the page of the run offers them."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from migration_route.access.actors import permission_for
from migration_route.core.enums import Resolution, RunState, Scope
from migration_route.ledger import queries
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import PlanRequest
from migration_route.services.plans import plain_plan
from tests.factories import History, create_model

HEAD = "\n\ndef work(apps, schema_editor):\n    raise ValueError('2 items')\n"


@pytest.fixture
def partial_run(everyone_can: Client, inline: History) -> RunRecord:
    """Apply a migration that creates a table and then fails, outside a transaction."""
    inline.write(
        "0001_shelf",
        create_model("Shelf"),
        "migrations.RunPython(work)",
        head=HEAD,
        body="atomic = False",
    )
    plan = plain_plan(PlanRequest())
    everyone_can.post(reverse("migration_route:apply"), {"fingerprint": plan.fingerprint})
    (run,) = queries.list_runs(database=None, before=None, limit=2)
    assert run.state is RunState.PARTIAL
    return run


def choices(client: Client, run: RunRecord) -> dict[str, str]:
    """Return the radio button of each choice on the page, by its value."""
    page = client.get(reverse("migration_route:run", kwargs={"run": run.id}))
    found = re.findall(r'<input type="radio" [^>]*value="(\w+)"([^>]*)>', str(page.content))
    return dict(found)


def test_what_the_database_contradicts_is_not_offered(
    everyone_can: Client, partial_run: RunRecord
) -> None:
    """The table exists, so the step cannot be marked as not applied; the page says why."""
    found = choices(everyone_can, partial_run)
    assert set(found) == set(Resolution)
    assert {how for how, rest in found.items() if "disabled" in rest} == {
        Resolution.REVERTED
    }
    assert "checked" in found[Resolution.CONTINUE]  # the Python was rolled back
    url = reverse("migration_route:run", kwargs={"run": partial_run.id})
    text = everyone_can.get(url).content.decode()
    assert "Operation 1 (Create model Shelf) is present in the database." in text


def test_an_offered_way_resolves_the_run(
    everyone_can: Client, partial_run: RunRecord
) -> None:
    """And the page names who did it, how and why."""
    url = reverse("migration_route:resolve", kwargs={"run": partial_run.id})
    everyone_can.post(url, {"how": "applied", "reason": "filled by hand"})
    assert queries.find_run(partial_run.id).state is RunState.RESOLVED
    page = everyone_can.get(reverse("migration_route:run", kwargs={"run": partial_run.id}))
    text = page.content.decode()
    assert "Resolved by <strong>ada</strong>" in text
    assert "(applied)" in text
    assert "filled by hand" in text


def test_a_changed_source_leaves_one_way(
    everyone_can: Client, partial_run: RunRecord, inline: History
) -> None:
    """The migration that ran is not the one on disk: nothing can be compared."""
    inline.write("0001_shelf", create_model("Shelf"), body="atomic = False")
    found = choices(everyone_can, partial_run)
    assert {how for how, rest in found.items() if "disabled" not in rest} == {
        Resolution.AS_IS
    }


def test_others_read_who_can_resolve_it(
    everyone_can: Client, partial_run: RunRecord
) -> None:
    """Without the permission there is no form."""
    name = permission_for(Scope.RESOLVE).partition(".")[2]
    permission = Permission.objects.get(codename=name)
    User.objects.get(username="ada").user_permissions.remove(permission)
    assert choices(everyone_can, partial_run) == {}
