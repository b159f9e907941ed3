"""Tests of the one line that a notification says."""

from __future__ import annotations

import pytest

from migration_route.core.events import EventType
from migration_route.ledger.records import EntryRecord
from migration_route.notifications.messages import summary


def entry(*, run: str = "r1", database: str = "default", actor: str = "ada", **facts):
    return EntryRecord(
        sequence=1,
        at="2026-11-23T18:03:24.364424Z",
        action="run_state",
        actor_kind="user" if actor else "system",
        actor_name=actor,
        address="",
        database=database,
        run=run,
        build="b1",
        facts=facts,
        previous="0" * 64,
        digest="1" * 64,
    )


@pytest.mark.parametrize(
    ("event", "facts", "said"),
    [
        ("run_requested", {"reason": "sale"}, "was requested (by ada: sale)"),
        ("run_waiting", {"waiting": "lock"}, "is waiting: lock (by ada)"),
        ("run_paused", {"reason": "sale"}, "is paused: sale (by ada: sale)"),
        ("run_paused", {}, "is paused: no reason (by ada)"),
        ("run_ended", {"to": "succeeded"}, "has ended: succeeded (by ada)"),
        (
            "run_ended",
            {"to": "failed", "error": {"message": "no\nroom"}},
            "has ended: failed: no room (by ada)",
        ),
        ("step_started", {"step": "shop.0002"}, "has started shop.0002 (by ada)"),
        (
            "step_finished",
            {"step": "shop.0002", "state": "applied"},
            "has finished shop.0002: applied (by ada)",
        ),
    ],
)
def test_an_event_of_a_run_names_the_run_and_the_actor(event, facts, said):
    found = summary(entry(**facts), EventType(event), None)
    assert found == f"Run r1 on default {said}"


@pytest.mark.parametrize(
    ("event", "facts", "said"),
    [
        (
            "rehearsal_ended",
            {"rehearsal": "r2", "state": "failed"},
            "A rehearsal on default has ended: r2 failed",
        ),
        ("migrate_finished", {}, "A manual migrate on default has ended"),
        (
            "denied",
            {"verb": "apply", "code": "forbidden"},
            "A request on default was denied: apply, forbidden",
        ),
        (
            "refused",
            {"verb": "apply", "code": "active_run"},
            "A request on default was refused: apply, active_run",
        ),
    ],
)
def test_an_event_without_a_run_names_what_it_is_about(event, facts, said):
    """And no actor if the system caused it."""
    assert summary(entry(run="", actor="", **facts), EventType(event), None) == said


@pytest.mark.parametrize("event", EventType)
def test_every_event_has_a_summary(event):
    assert summary(entry(), event, None).startswith("Run r1 on default ")


def test_a_long_summary_is_cut():
    found = summary(
        entry(to="failed", error={"message": "x" * 500}), EventType.RUN_ENDED, None
    )
    assert len(found) == 300
    assert found.endswith("…")
