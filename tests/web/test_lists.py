"""Tests of the filters of the lists of runs and ledger entries."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from migration_route.core.enums import RunState
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord
from tests.factories import History, a_step_record

ARun = Callable[..., RunRecord]
HISTORY = reverse("migration_route:history")
LEDGER = reverse("migration_route:ledger")


@pytest.fixture
def three_runs(a_run: ARun) -> list[RunRecord]:
    """Record three ended runs, the newest last."""
    found = []
    for name, migration, state in (
        ("ada", "0002_more", RunState.SUCCEEDED),
        ("grace", "0005_price", RunState.FAILED),
        ("ada", "0005_price", RunState.SUCCEEDED),
    ):
        run = a_run(actor_name=name, steps=(a_step_record(name=migration),))
        runs.move(run.id, to=RunState.RUNNING, expected={RunState.QUEUED})
        runs.move(run.id, to=state, expected={RunState.RUNNING})
        found.append(run)
    return found


def shown(client: Client, url: str, **query: str) -> list[str]:
    """Return the ids of the runs that a page links to, each once."""
    answer = client.get(url, query)
    assert answer.status_code == 200
    ids = re.findall(r"/runs/([0-9a-f]{32})/", answer.content.decode())
    return list(dict.fromkeys(ids))


def test_runs_are_found_by_user_state_and_migration(
    everyone_can: Client, three_runs: list[RunRecord]
) -> None:
    """The newest comes first; several filters limit each other."""
    first, second, third = (run.id for run in three_runs)
    assert shown(everyone_can, HISTORY) == [third, second, first]
    assert shown(everyone_can, HISTORY, user="ADA") == [third, first]
    assert shown(everyone_can, HISTORY, state="failed") == [second]
    assert shown(everyone_can, HISTORY, migration="testapp.0005") == [third, second]
    assert shown(everyone_can, HISTORY, migration="testapp.0005_price", user="g") == [
        second
    ]
    assert shown(everyone_can, HISTORY, migration="testapp") == [third, second, first]
    assert shown(everyone_can, HISTORY, migration="testapp.000") == []
    assert shown(everyone_can, HISTORY, migration="other") == []


def test_a_filter_that_matches_nothing_says_so(
    everyone_can: Client, three_runs: list[RunRecord]
) -> None:
    """It differs from an empty list."""
    text = everyone_can.get(HISTORY, {"since": "2999-01-01"}).content.decode()
    assert "No runs match." in text
    assert 'value="2999-01-01"' in text
    assert "Clear" in text


@pytest.mark.parametrize(
    "query",
    [
        {"state": "nonsense"},
        {"since": "yesterday"},
        {"until": "9999-12-31"},
        {"migration": "no migration'"},
        {"user": "x" * 300},
        {"user": "\x00"},
    ],
)
def test_a_bad_filter_is_an_error_and_not_a_crash(
    everyone_can: Client, three_runs: list[RunRecord], query: dict[str, str]
) -> None:
    """It says what is wrong."""
    assert everyone_can.get(HISTORY, query).status_code == 400


def test_the_next_page_keeps_the_filter(
    everyone_can: Client, three_runs: list[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link to older runs contains the fields of the form."""
    monkeypatch.setattr("migration_route.web.views._PAGE", 1)
    first, _, third = (run.id for run in three_runs)
    text = everyone_can.get(HISTORY, {"user": "ada"}).content.decode()
    (link,) = re.findall(r'<a href="(\?[^"]*before=[^"]*)"', text)
    assert shown(everyone_can, HISTORY, user="ada") == [third]
    assert shown(everyone_can, f"{HISTORY}{link.replace('&amp;', '&')}") == [first]


def test_entries_are_found_by_run_and_action(
    everyone_can: Client, three_runs: list[RunRecord]
) -> None:
    """A run's page leads to its entries."""
    first, second, _ = (run.id for run in three_runs)
    assert shown(everyone_can, LEDGER, run=first) == [first]
    assert shown(everyone_can, LEDGER, run=second, action="run_requested") == [second]
    assert shown(everyone_can, LEDGER, action="resolved") == []
    assert shown(everyone_can, LEDGER, user="grace") == [second]
    page = everyone_can.get(reverse("migration_route:run", kwargs={"run": first}))
    assert f"{LEDGER}?run={first}" in page.content.decode()


def test_the_start_page_shows_the_last_failure(
    everyone_can: Client, inline: History
) -> None:
    """On the card of its database, with its error and a link."""
    inline.python("0001_fill", "raise ValueError('2 items have no price')")
    plan = everyone_can.get(reverse("migration_route:plan")).content.decode()
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', plan))
    everyone_can.post(reverse("migration_route:apply"), form)
    text = everyone_can.get(reverse("migration_route:dashboard")).content.decode()
    assert "The last run failed" in text
    assert "2 items have no price" in text
    assert "mr-card--bad" in text


def test_the_start_page_has_a_summary_of_each_plan(
    everyone_can: Client, history: History
) -> None:
    """It is a fragment, which a script loads into the card."""
    history.table("0001_initial", "shelf")
    text = everyone_can.get(reverse("migration_route:dashboard")).content.decode()
    (url,) = re.findall(r'data-summary="([^"]+)"', text)
    fragment = everyone_can.get(url).content.decode()
    assert "<dt>Risk</dt>" in fragment
    assert "<html" not in fragment
