"""Tests that `manage.py migrate` takes the lock and releases it in the end."""

from __future__ import annotations

import gc
from typing import Any, cast

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import pre_migrate

from migration_route.conf.databases import private_connection
from migration_route.execution import migrate_guard
from migration_route.execution.migrate_guard.state_refresh import refreshed_state
from migration_route.ledger.queries import list_entries
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.factories import vendor

_USUAL = MigrationExecutor.migrate


@pytest.fixture
def named(empty_database, history, monkeypatch):
    """Return the alias of an empty database that is not named like a test database."""
    if vendor() != "sqlite":
        pytest.skip("the databases of servers are named for tests; the walks see to those")
    return empty_database


def is_free(alias: str) -> bool:
    """Return whether the lock of a database is free."""
    connection = private_connection(alias)
    lock = vendor_of(alias).lock(connection, LockSlot.SUPERVISOR)
    try:
        return lock.try_acquire() and lock.release()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("shop", None, True),
        ("test_shop", None, False),
        ("/srv/test_shop.sqlite3", None, False),
        ("/srv/test_shop/shop.sqlite3", None, True),
        ("rehearsal", "rehearsal", False),
        (":memory:", None, False),
    ],
)
def test_databases_for_tests_are_left_alone(name, wanted, expected, database, monkeypatch):
    """Those with Django's names for test databases, and those in memory."""
    if name == ":memory:" and vendor() != "sqlite":
        pytest.skip("only SQLite can live in memory")
    settings = {**connections["default"].settings_dict, "NAME": name}
    settings["TEST"] = {**settings["TEST"], "NAME": wanted}
    with monkeypatch.context() as patch:
        patch.setattr(connections["default"], "settings_dict", settings)
        assert migrate_guard._is_guarded("default") is expected


def test_it_can_be_put_away(named, settings):
    """By the setting GUARD_MIGRATE, and in the worker of a run."""
    assert migrate_guard._is_guarded(named)
    with migrate_guard.bypass_guard(named):
        assert not migrate_guard._is_guarded(named)
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "GUARD_MIGRATE": False}
    assert not migrate_guard._is_guarded(named)


def test_the_lock_is_held_until_the_last_signal(named, history):
    """From before the first step until after the last app's `post_migrate`."""
    seen = []

    def look(*, using, **_):
        if using == named:
            seen.append(is_free(named))

    history.table("0001_a", "made_a")
    pre_migrate.connect(look, dispatch_uid="test")
    try:
        call_command("migrate", "testapp", database=named, verbosity=0)
    finally:
        pre_migrate.disconnect(dispatch_uid="test")
    assert seen
    assert not any(seen)
    assert is_free(named)
    assert MigrationExecutor.migrate is _USUAL
    assert migrate_guard._guarded == {}


def test_what_fails_before_the_executor_gives_the_lock_back(named, history):
    """As soon as Python has collected the command; the next one may then start."""

    def fail(*, using, **_):
        if using == named:
            raise RuntimeError("not now")

    history.table("0001_a", "made_a")
    pre_migrate.connect(fail, dispatch_uid="test")
    try:
        with pytest.raises(RuntimeError):
            call_command("migrate", "testapp", database=named, verbosity=0)
    finally:
        pre_migrate.disconnect(dispatch_uid="test")
    gc.collect()
    assert is_free(named)
    assert MigrationExecutor.migrate is _USUAL
    call_command("migrate", "testapp", database=named, verbosity=0)
    assert is_free(named)


def test_a_migration_may_call_migrate_itself(named, history):
    """It already owns the lock."""
    history.table("0001_a", "made_a")
    history.python(
        "0002_b",
        "from django.core.management import call_command\n"
        f"call_command('migrate', 'auth', database={named!r}, verbosity=0)",
        body="atomic = False",
    )
    call_command("migrate", "testapp", database=named, verbosity=0)
    recorded = MigrationRecorder(connections[named]).applied_migrations()
    assert ("auth", "0001_initial") in recorded
    assert ("testapp", "0002_b") in recorded
    assert is_free(named)


def test_the_ledger_tells_who_typed_what(named, history, monkeypatch):
    """As soon as there is a ledger; secrets in the arguments are masked."""
    call_command("migrate", "migration_route", database=named, verbosity=0)
    (line,) = list_entries(before=None, limit=10)
    assert (line.action, line.facts["outcome"]) == ("migrate_finished", "finished")
    history.table("0001_a", "made_a")
    monkeypatch.setattr("sys.argv", ["manage.py", "migrate", "--password=hunter2"])
    call_command("migrate", "testapp", database=named, verbosity=0)
    finished, started, _ = list_entries(before=None, limit=10)
    assert started.facts["argv"] == ["manage.py", "migrate", "--password=********"]
    assert started.facts["steps"] == [["testapp", "0001_a", "forwards"]]
    assert finished.facts["steps"] == [["testapp", "0001_a", "applied"]]
    assert "@" in started.actor_name


def test_a_step_that_has_lost_its_ground_is_not_taken(history):
    """Its dependency was reversed while the command waited: nothing is applied."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    recorder = MigrationRecorder(connections["default"])
    recorder.record_applied("testapp", "0001_a")
    executor = MigrationExecutor(connections["default"])
    plan = executor.migration_plan([("testapp", "0002_b")])
    state = cast(Any, executor)._create_project_state(with_applied_migrations=True)
    assert refreshed_state(executor, plan, state) is state
    recorder.record_unapplied("testapp", "0001_a")
    with pytest.raises(CommandError, match="Run migrate again"):
        refreshed_state(executor, plan, state)
