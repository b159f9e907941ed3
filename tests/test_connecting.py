"""Tests of the private connections that this package opens."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction

from migration_route.conf import databases
from migration_route.conf.databases import (
    all_aliases,
    find_target,
    private_connection,
    using_private_connection,
)
from migration_route.core.errors import UnknownDatabase
from migration_route.vendors import vendor_of
from tests.factories import vendor, written_by_another

pytestmark = pytest.mark.usefixtures("database")


class _Undone(Exception):
    pass


def test_what_it_writes_survives_a_surrounding_rollback():
    """The record of an attempt persists even if the request's transaction is rolled
    back."""

    def attempt() -> None:
        with transaction.atomic():
            with using_private_connection("default"):
                User.objects.create(username="stays")
            raise _Undone

    with pytest.raises(_Undone):
        attempt()
    assert User.objects.filter(username="stays").exists()


def test_it_does_not_see_what_the_surrounding_transaction_has_not_committed():
    """The connection is a separate session."""
    if vendor() == "sqlite":
        pytest.skip("on SQLite it would wait for the surrounding transaction")
    with transaction.atomic():
        User.objects.create(username="unseen")
        with using_private_connection("default"):
            assert not User.objects.filter(username="unseen").exists()


def test_the_usual_connection_is_back_afterwards():
    """The connection is restored after an error too, and nested blocks use separate
    connections."""
    usual = connections["default"]

    def fail() -> None:
        with using_private_connection("default") as first:
            with using_private_connection("default") as second:
                assert second is not first
                assert connections["default"] is second
            assert connections["default"] is first
            raise _Undone

    with pytest.raises(_Undone):
        fail()
    assert connections["default"] is usual


def test_it_is_closed_afterwards():
    with using_private_connection("default") as own:
        own.ensure_connection()
        assert own.connection is not None
    assert own.connection is None


def test_the_usual_settings_are_left_as_they_are():
    """The connection uses no pool, no persistent connection and no request transaction."""
    usual = connections["default"].settings_dict
    before = {**usual, "OPTIONS": {**usual["OPTIONS"]}}
    connection = private_connection("default", patience=0.5)
    assert not connection.settings_dict["ATOMIC_REQUESTS"]
    assert connection.settings_dict["AUTOCOMMIT"]
    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    assert usual == before


def test_the_pool_of_postgresql_is_left():
    """A pool would pass on the session together with what was set in it."""
    if vendor() != "postgresql":
        pytest.skip("only PostgreSQL has Django's pool")
    settings = connections["default"].settings_dict
    own = vendor_of("default").own_settings(
        {**settings, "OPTIONS": {"pool": True, "sslmode": "prefer"}}, patience=1
    )
    assert "pool" not in own["OPTIONS"]
    assert own["OPTIONS"]["sslmode"] == "prefer"
    assert own["OPTIONS"]["connect_timeout"] == 5


@pytest.mark.parametrize("options", [{}, {"read_default_file": "/etc/my.cnf"}])
def test_a_file_of_options_is_left_alone_on_mysql(options):
    """The option file of the project takes precedence."""
    if vendor() != "mysql":
        pytest.skip("only MySQL and MariaDB read one")
    settings = connections["default"].settings_dict
    own = vendor_of("default").own_settings({**settings, "OPTIONS": options}, patience=1)
    assert ("connect_timeout" in own["OPTIONS"]) is not bool(options)


def test_it_waits_for_a_busy_file_no_longer_than_its_patience():
    """The given patience applies instead of SQLite's default timeout of five seconds."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has one writer")
    import time

    from django.db import OperationalError

    start = time.monotonic()
    with (
        written_by_another(),
        using_private_connection("default", patience=0.2),
        pytest.raises(OperationalError, match="locked"),
        transaction.atomic(),
    ):
        pass
    assert 0.15 < time.monotonic() - start < 2


def test_the_workers_session_has_no_limits_of_the_web():
    """A `statement_timeout` of the role does not cancel a migration."""
    with using_private_connection("default") as own:
        vendor_of("default").prepare_worker_session(own, "run-1", lock_timeout=1)
        with own.cursor() as cursor:
            if vendor() == "postgresql":
                cursor.execute("SHOW application_name")
                assert cursor.fetchone() == ("migration-route:run-1",)
                cursor.execute("SHOW statement_timeout")
                assert cursor.fetchone() == ("0",)
            elif vendor() == "mysql":
                cursor.execute("SELECT @@session.wait_timeout")
                assert cursor.fetchone() == (7 * 24 * 3600,)


@pytest.mark.parametrize(
    ("name", "is_private"),
    [
        (":memory:", True),
        ("file:x?mode=memory&cache=shared", True),
        ("file.sqlite3", False),
        ("/somewhere/memory.sqlite3", False),
    ],
)
def test_a_database_in_memory_is_private(name, is_private):
    """The process of a run could not access it."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite can live in memory")
    connection = connections["default"].copy()
    connection.settings_dict = {**connection.settings_dict, "NAME": name}
    assert vendor_of("default").is_private(connection) is is_private


def test_a_servers_database_is_never_private():
    """Every process can access it, and there is no file beside it."""
    if vendor() == "sqlite":
        pytest.skip("SQLite has no server")
    assert not vendor_of("default").is_private(connections["default"])
    assert vendor_of("default").sidecar(connections["default"]) is None


def test_a_way_that_is_direct_is_asked_about_once(monkeypatch):
    """The result is cached per process and per settings."""
    asked = []
    kind = type(vendor_of("default"))
    usual = kind.is_direct

    def counted(*words):
        asked.append(words)
        return usual(*words)

    monkeypatch.setattr(databases, "_direct", set())
    monkeypatch.setattr(kind, "is_direct", counted)
    databases.require_session_connection("default")
    databases.require_session_connection("default")
    assert len(asked) == 1
    databases.require_session_connection("other")
    assert len(asked) == 2


def test_a_session_that_serves_two_is_known():
    """One server session behind two connections identifies a transaction pooler."""
    if vendor() != "postgresql":
        pytest.skip("only PostgreSQL has poolers of transactions")
    with (
        using_private_connection("default") as first,
        using_private_connection("default") as second,
    ):
        assert vendor_of("default").is_direct(first, second)
        assert not vendor_of("default").is_direct(first, first)


def test_the_direct_way_is_gone_where_it_is_named(settings, monkeypatch):
    """The alias stays; the address is that of the direct alias."""
    usual = connections.settings["default"]
    monkeypatch.setitem(connections.settings, "straight", {**usual, "USER": "another"})
    settings.MIGRATION_ROUTE = {"DATABASES": {"default": {"direct_alias": "straight"}}}
    connection = private_connection("default")
    assert connection.alias == "default"
    assert connection.settings_dict["USER"] == "another"
    with pytest.raises(UnknownDatabase, match="only the direct alias of the database 'def"):
        find_target("straight")
    assert "straight" not in all_aliases()
