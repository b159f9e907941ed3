"""Tests that the first write installs the ledger's tables, once, and no read does."""

from __future__ import annotations

import pytest
from django.db import connections
from django.test import Client

from migration_route.conf.databases import private_connection
from migration_route.core.enums import Action
from migration_route.core.errors import ActiveRun, DatabaseUnavailable
from migration_route.ledger import bootstrap, queries
from migration_route.ledger.bootstrap import install, is_installed
from migration_route.ledger.entries import Draft, write
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.factories import at_once, tables

OWN = {
    "migration_route_approval",
    "migration_route_delivery",
    "migration_route_entry",
    "migration_route_event",
    "migration_route_outbox",
    "migration_route_rehearsal",
    "migration_route_run",
}
READ = {"Authorization": "Bearer reader-secret"}


def test_an_empty_database_gets_its_tables_and_a_record_of_them(empty_database):
    """Only this package's tables are created, and Django's own record of them."""
    assert not is_installed(empty_database)
    assert install()
    assert is_installed(empty_database)
    assert tables(empty_database) == OWN | {"django_migrations"}


def test_installing_again_does_nothing(empty_database):
    """Existing tables stay, with all of their rows."""
    install()
    write(Draft(action=Action.LEDGER_INSTALLED), patience=1)
    assert not install()
    assert len(queries.list_entries(before=None, limit=10)) == 1


def test_of_several_at_once_one_makes_the_tables(empty_database):
    """Four threads start on an empty database; none fails, the tables are created once."""
    answers = at_once(4, lambda _: install())
    assert all(isinstance(answer, bool) for answer in answers), answers
    assert any(answers)
    assert tables(empty_database) == OWN | {"django_migrations"}


def test_installing_waits_for_the_lock_and_then_names_what_is_in_the_way(
    empty_database, settings
):
    """Another run may be active on that database."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "RUN_LOCK_TIMEOUT": "200ms"}
    connection = private_connection(empty_database)
    lock = vendor_of(empty_database).lock(connection, LockSlot.SUPERVISOR)
    try:
        assert lock.try_acquire()
        with pytest.raises(ActiveRun, match="cannot be installed"):
            install()
        assert lock.release()
        assert install()
    finally:
        connection.close()


def test_installing_does_not_wait_for_a_run_that_began_when_all_was_there(
    empty_database, settings, monkeypatch
):
    """The installer has passed the lock to a run, which may hold it for long."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "RUN_LOCK_TIMEOUT": "20s"}
    connection = private_connection(empty_database)
    lock = vendor_of(empty_database).lock(connection, LockSlot.SUPERVISOR)
    look = bootstrap._is_up_to_date
    earlier: list[bool] = []  # what this process found at its first check

    def looks(alias):
        return earlier.pop() if earlier else look(alias)

    monkeypatch.setattr(bootstrap, "_is_up_to_date", looks)
    try:
        assert install()
        assert lock.try_acquire()
        earlier.append(False)
        assert not install()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "status",
        "runs",
        "ledger",
        "ledger/verify",
        "ledger/export",
        "ready",
        f"runs/{'0' * 32}",
    ],
)
def test_a_read_creates_nothing(empty_database, path):
    """Every reading call responds, and the database stays empty."""
    answer = Client().get(f"/migrations/api/v1/{path}", headers=READ)
    assert answer.status_code in {200, 404, 503}
    assert tables(empty_database) == set()


def test_every_reading_function_works_without_a_table(empty_database):
    """The results are empty, and nothing fails."""
    assert queries.list_runs(database=None, before=None, limit=5) == []
    assert queries.active_runs() == {}
    assert queries.unresolved_runs() == {}
    assert queries.find_repeated("k", "d") is None
    assert queries.list_events("0" * 32, after=0, limit=5) == []
    assert queries.list_entries(before=None, limit=5) == []
    assert tables(empty_database) == set()


def test_a_database_that_is_gone_is_unavailable_not_empty(database):
    """No response is not the same as no ledger."""
    usual = connections["default"]
    gone = usual.copy()
    nowhere = (
        {"NAME": "/nonexistent/x.sqlite3"} if usual.vendor == "sqlite" else {"PORT": "1"}
    )
    gone.settings_dict = {**gone.settings_dict, **nowhere}
    connections["default"] = gone
    try:
        with pytest.raises(DatabaseUnavailable):
            queries.active_runs()
    finally:
        connections["default"] = usual
