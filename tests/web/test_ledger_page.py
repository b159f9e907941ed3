"""Tests that the page of the ledger shows its entries, and whether they were changed."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.db import connections
from django.test import Client
from django.urls import reverse

from migration_route.core.enums import RunState
from migration_route.ledger.records import RunRecord

LEDGER = reverse("migration_route:ledger")
ARun = Callable[..., RunRecord]


def test_entries_tell_who_did_what(everyone_can: Client, a_run: ARun) -> None:
    """Newest first, each with a link to its run."""
    run = a_run(RunState.CANCELLED)
    text = everyone_can.get(LEDGER).content.decode()
    assert "run requested" in text
    assert "deployer" in text
    assert reverse("migration_route:run", kwargs={"run": run.id}) in text
    assert text.index(">2</span>") < text.index(">1</span>")


def test_a_denial_that_names_no_run_is_shown_without_a_link(
    everyone_can: Client, client: Client, a_run: ARun
) -> None:
    """Text in a URL is not the id of a run."""
    a_run()
    client.post(reverse("migration_route:cancel", kwargs={"run": "some where"}))
    answer = everyone_can.get(LEDGER)
    assert answer.status_code == 200
    assert "denied" in answer.content.decode()


def test_whoever_only_passes_by_leaves_no_line(
    everyone_can: Client, client: Client, a_run: ARun
) -> None:
    """Every robot that finds the URL would write one."""
    a_run()
    for name in ("dashboard", "plan", "history", "ledger"):
        assert client.get(reverse(f"migration_route:{name}")).status_code == 302
    text = everyone_can.get(LEDGER).content.decode()
    assert 'mr-badge--bad">denied</span>' not in text


def test_a_ledger_that_holds_is_said_to_hold(everyone_can: Client, a_run: ARun) -> None:
    """On request."""
    a_run()
    assert b"Ledger intact:" not in everyone_can.get(LEDGER).content
    assert b"Ledger intact:" in everyone_can.get(LEDGER, {"verify": "1"}).content


def test_a_changed_line_is_named_and_marked(everyone_can: Client, a_run: ARun) -> None:
    """Which one, and how many before it are valid."""
    a_run(RunState.CANCELLED)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "UPDATE migration_route_entry SET actor_name = 'eve' WHERE sequence = 2"
        )
    text = everyone_can.get(LEDGER, {"verify": "1"}).content.decode()
    assert "The ledger has been changed." in text
    assert "The 1 entry before it is intact" in text
    assert text.count("mr-row--broken") == 1


def test_the_ledger_is_paged(everyone_can: Client, a_run: ARun) -> None:
    """From the newest on."""
    for _ in range(14):
        a_run(RunState.CANCELLED)
    text = everyone_can.get(LEDGER).content.decode()
    assert "?before=4" in text
    rest = everyone_can.get(LEDGER, {"before": "4"}).content.decode()
    assert ">1</span>" in rest
    assert "Older</a>" not in rest


def test_the_evidence_of_a_run_can_be_downloaded(everyone_can: Client, a_run: ARun) -> None:
    """From its page, and from each of its entries."""
    run = a_run(RunState.CANCELLED)
    address = reverse("migration_route:api-evidence", kwargs={"run": run.id})
    link = f'<a href="{address}" download>Download evidence</a>'
    page = everyone_can.get(reverse("migration_route:run", kwargs={"run": run.id}))
    assert page.content.decode().count(link) == 1
    assert everyone_can.get(LEDGER).content.decode().count(link) == 2
    saved = everyone_can.get(address)
    assert (saved.status_code, saved["Content-Type"]) == (200, "application/zip")


def test_a_verified_ledger_shows_its_head(everyone_can: Client, a_run: ARun) -> None:
    """To store it elsewhere."""
    a_run()
    text = everyone_can.get(LEDGER, {"verify": "1"}).content.decode()
    assert re.search(r"Ledger head <code[^>]*>1:[0-9a-f]{64}</code>", text)
