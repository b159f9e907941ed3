"""Tests that Prometheus can parse the metrics, and that they match the tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isclose

import pytest
from django.db import connections
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from migration_route.api.metrics import Metric, exposition
from migration_route.core.enums import Action, RunState
from migration_route.ledger import runs
from migration_route.ledger.entries import Draft, write
from migration_route.ledger.runs import create_run
from migration_route.models import Entry
from migration_route.services.notifications import deliver_due
from tests.factories import a_new_run
from tests.harness.receiver import Receiver

ADDRESS = "/migrations/metrics"


def scrape(who: str = "reader") -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return every value by name and labels, as Prometheus' own parser reads it."""
    answer = Client().get(ADDRESS, headers={"Authorization": f"Bearer {who}-secret"})
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(answer.content.decode()):
        assert family.type == "gauge"
        assert family.documentation
        assert family.name not in found, "a family must not come twice"
        found[family.name.removeprefix("migration_route_")] = {
            tuple(sorted(sample.labels.items())): sample.value for sample in family.samples
        }
    return found


def of(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer nobody"}, 401),
        ({"Authorization": "Bearer planner-secret"}, 200),
    ],
)
def test_it_needs_the_right_to_read(database, headers, status):
    """`plan` implies `read`."""
    assert Client().get(ADDRESS, headers=headers).status_code == status


def test_only_get_is_answered(database):
    headers = {"Authorization": "Bearer reader-secret"}
    assert Client().post(ADDRESS, headers=headers).status_code == 405
    assert Client().get(f"{ADDRESS}?x=1", headers=headers).status_code == 400


def test_each_run_is_counted_where_it_stands(database):
    for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.FAILED):
        run, _ = create_run(a_new_run())
        columns = {
            "started_at": (datetime.now(UTC) - timedelta(seconds=3)).strftime(
                "%Y-%m-%dT%H:%M:%S.%fZ"
            )
        }
        change = runs.Change(columns=columns)
        runs.move(run.id, to=RunState.RUNNING, expected={RunState.QUEUED}, change=change)
        change = runs.Change(outcome="applied" if state is RunState.SUCCEEDED else "no")
        runs.move(run.id, to=state, expected={RunState.RUNNING}, change=change)
    found = scrape()
    assert found["runs"] == {
        of(database="default", state="succeeded", outcome="applied"): 1,
        of(database="default", state="failed", outcome="no"): 2,
    }
    (took,) = found["last_run_duration_seconds"].values()
    assert 3 <= took < 60
    (ended,) = found["last_run_finished_timestamp_seconds"].values()
    assert isclose(ended, datetime.now(UTC).timestamp(), abs_tol=60)
    assert found["ledger_entries"] == {(): 9}
    assert found["ledger_tail_intact"] == {(): 1}
    assert found["pending"][of(database="default")] == 0
    assert found["applied"][of(database="default")] > 0
    assert found["needs_resolution"] == {
        of(database="default"): 0,
        of(database="other"): 0,
    }
    assert "active_run_age_seconds" not in found


def test_a_run_that_owns_its_database_is_seen_with_its_heart(database):
    run, _ = create_run(a_new_run(database="other"))
    runs.move(run.id, to=RunState.RUNNING, expected={RunState.QUEUED})
    runs.move(run.id, to=RunState.WAITING, expected={RunState.RUNNING})
    found = scrape()
    labels = of(database="other", state="waiting")
    assert 0 <= found["active_run_age_seconds"][labels] < 60
    assert found["active_run_waits"] == {labels: 1}
    assert 0 <= found["heartbeat_age_seconds"][of(database="other")] < 60


def test_a_changed_line_shows_and_the_cost_is_bounded(
    database, django_assert_max_num_queries
):
    write(*(Draft(action=Action.DENIED) for _ in range(150)), patience=5)
    assert scrape()["ledger_tail_intact"] == {(): 1}
    with django_assert_max_num_queries(40):
        scrape()
    Entry.objects.filter(sequence=140).update(action="refused")
    assert scrape()["ledger_tail_intact"] == {(): 0}


def test_what_has_not_arrived_is_counted_for_each_recipient(database, settings):
    with Receiver(lambda _: 500) as receiver:
        settings.MIGRATION_ROUTE = {
            **settings.MIGRATION_ROUTE,
            "LAUNCHER": "inline",
            "WEBHOOKS": [
                {"url": receiver.url, "name": 'the "team"', "insecure": True, "events": "*"}
            ],
        }
        create_run(a_new_run())
        deliver_due()
    found = scrape()
    assert found["messages_pending"] == {of(recipient='the "team"'): 1}
    assert found["messages_given_up"] == {of(recipient='the "team"'): 0}


def test_it_works_with_no_table_at_all(empty_database):
    found = scrape()
    assert found["ledger_reachable"] == {(): 1}
    assert found["ledger_entries"] == {(): 0}
    assert found["pending"][of(database=empty_database)] > 0


def test_it_works_while_the_ledger_does_not_answer(database, settings, monkeypatch):
    broken = {**connections.settings["default"], "NAME": "/nowhere/at/all", "PORT": "1"}
    monkeypatch.setitem(connections.settings, "broken", broken)
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LEDGER_DATABASE": "broken"}
    found = scrape()
    assert found["ledger_reachable"] == {(): 0}
    assert found["database_reachable"][of(database="broken")] == 0
    assert "runs" not in found
    del connections["broken"]


def test_every_sign_is_written_so_that_it_is_read_again():
    value = 'a "b" \\ c\nd {e="f"}'
    text = exposition([Metric(name="x", help="A.", samples=(({"label": value}, 1.5),))])
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"label": value}
    assert family.samples[0].value == 1.5
