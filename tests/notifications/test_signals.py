"""Tests that signals are sent after the commit, in a separate thread, and robustly."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import connections, transaction

from migration_route import signals
from migration_route.core.enums import Action, RunState
from migration_route.ledger import entries, runs
from migration_route.ledger.entries import Draft, append, write
from migration_route.ledger.queries import list_entries
from tests.factories import a_new_run


@contextmanager
def heard(*names):
    """Record the calls of these signals."""
    found = []

    def hear(sender, event, signal, **_):
        found.append(event)

    for name in names:
        getattr(signals, name).connect(hear)
    try:
        yield found
    finally:
        for name in names:
            getattr(signals, name).disconnect(hear)


def test_a_request_and_each_transition_are_heard_in_order(database):
    with heard("run_requested", "run_waiting", "run_started", "run_ended") as found:
        run, _ = runs.create_run(a_new_run())
        for before, after in (("queued", "running"), ("running", "failed")):
            runs.move(run.id, to=RunState(after), expected={RunState(before)})
        assert signals.settle(10)
    assert [each.edge for each in found] == ["run_requested", "run_started", "run_ended"]
    requested, _, ended = found
    assert (requested.run, requested.database) == (run.id, "default")
    assert (requested.actor_kind, requested.actor_name) == ("token", "deployer")
    assert requested.facts["reason"] == "a test"
    assert ended.facts["to"] == "failed"
    assert len({each.id for each in found}) == 3


def test_what_is_heard_is_on_record_and_cannot_be_changed(database):
    """The receiver reads the ledger over its own connection, and finds the entry."""
    seen: list[Any] = []

    def hear(event, **_):
        seen.append([entry.action for entry in list_entries(before=None, limit=9)])
        with pytest.raises(TypeError):
            event.facts["to"] = "another"
        with pytest.raises(AttributeError):
            event.run = "another"
        seen.append("frozen")

    signals.run_requested.connect(hear)
    try:
        runs.create_run(a_new_run())
        assert signals.settle(10)
    finally:
        signals.run_requested.disconnect(hear)
    assert seen == [["run_requested"], "frozen"]


def test_what_is_rolled_back_is_never_heard(database):
    class Undone(Exception):
        """Rolls the transaction back."""

    with heard("denied") as found:
        with suppress(Undone), transaction.atomic():
            append(Draft(action=Action.DENIED))
            raise Undone
        write(Draft(action=Action.DENIED), patience=1)
        assert signals.settle(10)
    assert len(found) == 1


def test_a_receiver_that_fails_or_ends_keeps_nobody_from_hearing(database, caplog):
    def fails(**_):
        raise RuntimeError("a receiver is bad")

    def leaves(**_):
        raise SystemExit(3)

    signals.run_requested.connect(fails)
    signals.run_started.connect(leaves)
    try:
        with heard("run_requested", "run_ended") as found:
            run, _ = runs.create_run(a_new_run())
            for before, after in (("queued", "running"), ("running", "failed")):
                runs.move(run.id, to=RunState(after), expected={RunState(before)})
            assert signals.settle(10)
    finally:
        signals.run_requested.disconnect(fails)
        signals.run_started.disconnect(leaves)
    assert [each.edge for each in found] == ["run_requested", "run_ended"]
    assert "a receiver is bad" in caplog.text
    assert "A receiver of run_started tried to exit" in caplog.text


def test_a_receiver_that_hangs_keeps_nobody_waiting(database):
    """The transition returns at once; only the thread of the signals waits."""
    goes_on = threading.Event()

    def hangs(**_):
        assert threading.current_thread() is not threading.main_thread()
        assert goes_on.wait(30)

    signals.run_requested.connect(hangs)
    try:
        began = time.monotonic()
        run, _ = runs.create_run(a_new_run())
        runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED})
        took = time.monotonic() - began
        assert not signals.settle(0.05)
    finally:
        goes_on.set()
        signals.run_requested.disconnect(hangs)
    assert took < 20
    assert signals.settle(10)


def test_who_does_not_listen_costs_no_thread(database, monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)
    write(Draft(action=Action.DENIED), patience=1)


def test_too_many_for_a_slow_receiver_are_dropped_and_said(database, monkeypatch, caplog):
    """Memory is bounded; the log names what was dropped."""
    monkeypatch.setattr(signals, "_MOST", 3)
    goes_on = threading.Event()
    found = []

    def hangs(event, **_):
        found.append(event)
        assert goes_on.wait(30)

    signals.denied.connect(hangs)
    try:
        write(*(Draft(action=Action.DENIED) for _ in range(8)), patience=1)
    finally:
        goes_on.set()
        assert signals.settle(10)
        signals.denied.disconnect(hangs)
    assert len(found) == 3
    assert "some signals are not sent" in caplog.text


def test_the_connections_of_receivers_are_closed(database):
    kept = []

    def reads(**_):
        list_entries(before=None, limit=1)
        kept.append(connections["default"])

    signals.denied.connect(reads)
    try:
        entries.write(Draft(action=Action.DENIED), patience=1)
        assert signals.settle(10)
    finally:
        signals.denied.disconnect(reads)
    assert kept[0].connection is None
