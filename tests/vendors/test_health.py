"""Tests of the health checks, on the database of the tests."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sqlite3
import subprocess
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, connections

from migration_route.conf.databases import private_connection
from migration_route.core.values import HealthSettings, Impact, SignalName, SignalState
from migration_route.execution.preflight import HealthProbe
from migration_route.vendors import vendor_of
from tests.harness.deadlines import until

TABLE = "auth_group"
TOUCHED = Impact(tables=frozenset({TABLE}))
AT_ONCE = HealthSettings(
    long_transaction=timedelta(milliseconds=1), lock_queue=timedelta(milliseconds=1)
)


@contextlib.contextmanager
def looked(touched=TOUCHED, settings=AT_ONCE):
    """Return a function that runs the checks and returns the signals by name."""
    own = private_connection("default")

    def look():
        found = vendor_of("default").health(own, touched, settings)
        return {signal.name: signal for signal in found}

    try:
        yield look
    finally:
        own.close()


def only_on(vendor):
    """Skip on other databases."""
    if connection.vendor != vendor:
        pytest.skip(f"this is about {vendor}")


@contextlib.contextmanager
def somebody(*statements):
    """Yield another session that has executed this in a transaction."""
    other = private_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield other
    finally:
        other.close()


def test_a_database_in_order_stops_nobody(database):
    """Whatever else runs on this machine: the test's own tables are free."""
    with looked(settings=HealthSettings()) as look:
        found = look()
    stops = {name for name, one in found.items() if one.state is SignalState.STOP}
    assert not stops
    assert all(one.reason.endswith(".") for one in found.values())


def test_a_transaction_on_a_touched_table_stops_and_elsewhere_does_not(database):
    """It is found by its locks."""
    only_on("postgresql")
    with somebody(f"SELECT count(*) FROM {TABLE}"), looked() as look:
        assert look()[SignalName.LONG_TRANSACTION].state is SignalState.STOP
    with somebody(f"SELECT count(*) FROM {TABLE}"):
        other = Impact(tables=frozenset({"auth_permission"}))
        with looked(other) as look:
            assert look()[SignalName.LONG_TRANSACTION].state is SignalState.NORMAL


def test_a_parent_of_a_new_foreign_key_is_touched(database):
    """Its rows are locked against changes while the constraint is created."""
    only_on("postgresql")
    touched = Impact(parents=frozenset({TABLE}))
    with somebody(f"SELECT count(*) FROM {TABLE}"), looked(touched) as look:
        assert look()[SignalName.LONG_TRANSACTION].state is SignalState.STOP


def test_a_snapshot_stops_what_makes_an_index_concurrently(database):
    """The build waits for every transaction, on any table."""
    only_on("postgresql")
    snapshot = (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SELECT count(*) FROM auth_permission",
    )
    with somebody(*snapshot):
        with looked(replace(TOUCHED, waits_for_all=True)) as look:
            assert look()[SignalName.LONG_TRANSACTION].state is SignalState.STOP
        with looked() as look:
            assert look()[SignalName.LONG_TRANSACTION].state is SignalState.NORMAL


def test_a_session_that_calls_itself_a_dump_is_one(database):
    """So is one that has locked every table, whatever its name."""
    only_on("postgresql")
    with somebody("SET application_name = 'pg_dump'"), looked() as look:
        assert look()[SignalName.DUMP].state is SignalState.STOP
    with somebody("SELECT 1"), looked() as look:
        assert look()[SignalName.DUMP].state is SignalState.NORMAL


def test_a_role_that_may_not_see_says_unknown_and_never_fails(database):
    """It reports what is visible; for the rest it names the missing right."""
    only_on("postgresql")
    name = "health_" + str(connection.settings_dict["NAME"])[-20:]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name}")
        cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    own = private_connection("default")
    try:
        with own.cursor() as cursor:
            cursor.execute(f"SET ROLE {name}")
        with somebody(f"SELECT count(*) FROM {TABLE}"):
            found = {
                signal.name: signal
                for signal in vendor_of("default").health(own, TOUCHED, AT_ONCE)
            }
    finally:
        own.close()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP OWNED BY {name}")
            cursor.execute(f"DROP ROLE {name}")
    hidden = found[SignalName.LONG_TRANSACTION]
    assert hidden.state is SignalState.UNKNOWN
    assert "pg_read_all_stats" in hidden.reason
    assert found[SignalName.WRAPAROUND].state is SignalState.UNKNOWN
    assert found[SignalName.CONNECTIONS].state is SignalState.NORMAL
    assert found[SignalName.DISK].state is SignalState.UNKNOWN
    assert "pg_read_all_settings" in found[SignalName.DISK].reason


def room_for(touched, factor=1.0):
    """Return the signal about the disk; skip where it belongs to another host."""
    with looked(touched, replace(AT_ONCE, disk=factor)) as look:
        found = look()[SignalName.DISK]
    if "not on this host" in found.reason or "may not read" in found.reason:
        pytest.skip(found.reason)
    return found


FULL = 1e15  # a multiple of the total space is never free


@pytest.mark.parametrize(
    ("told", "factor", "state"),
    [
        ({"most_rewrites": 1}, 1.0, SignalState.NORMAL),
        ({"most_rewrites": 1}, FULL, "undecided"),
        ({"most_rewrites": None}, 1.0, "undecided"),
        ({"most_rewrites": 0}, FULL, SignalState.NORMAL),
        ({"rewritten": (TABLE,)}, 1.0, SignalState.NORMAL),
        ({"rewritten": (TABLE,)}, FULL, SignalState.STOP),
        ({"rewritten": (TABLE,), "unforecast": True}, FULL, SignalState.STOP),
        ({"rewritten": ()}, FULL, SignalState.NORMAL),
        ({"rewritten": (), "unforecast": True}, FULL, SignalState.NORMAL),
        ({"unforecast": True}, 1.0, SignalState.UNKNOWN),
    ],
)
def test_the_disk_stops_only_for_what_is_foretold(database, told, factor, state):
    """Where the upper bound would not fit, a forecast is required; without one, the signal
    is unknown, with the reason."""
    found = room_for(replace(TOUCHED, **told), factor)
    expected = SignalState.UNKNOWN if state == "undecided" else state
    assert found.state is expected, found
    assert found.lacks_forecast is (state == "undecided")
    assert ("without a forecast" in found.reason) is (
        "rewritten" in told and "unforecast" in told
    )


def test_a_table_that_is_rewritten_twice_in_a_transaction_is_there_three_times(database):
    """On PostgreSQL: its old files are kept until the transaction ends. The others need one
    more copy."""
    once, twice = (
        room_for(replace(TOUCHED, rewritten=(TABLE,) * count)).facts["needed"]
        for count in (1, 2)
    )
    assert once > 0
    assert twice == (2 * once if connection.vendor == "postgresql" else once)


def test_a_table_is_as_large_as_the_database_says(database):
    """By its name alone, and with its schema, as a forecast names one off the search
    path."""
    only_on("postgresql")
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA aside")
        cursor.execute("CREATE TABLE aside.pile AS SELECT * FROM generate_series(1, 5000)")
        try:
            cursor.execute("SELECT pg_total_relation_size('aside.pile')")
            (size,) = cursor.fetchone()
            needed = room_for(replace(TOUCHED, rewritten=("aside.pile",))).facts["needed"]
            assert needed == size
            assert room_for(replace(TOUCHED, rewritten=("pile",))).facts["needed"] == 0
        finally:
            cursor.execute("DROP SCHEMA aside CASCADE")


def test_a_full_server_is_known_by_its_refusal():
    """It accepts no connection to query its limit."""
    vendor = vendor_of("default")
    refusals = {
        "postgresql": Exception("FATAL:  sorry, too many clients already"),
        "mysql": Exception(1040, "Too many connections"),
    }
    if vendor.name in refusals:
        found = vendor.health_without_connection(refusals[vendor.name])
        assert found is not None
        assert found.state is SignalState.STOP
    assert vendor.health_without_connection(Exception("no route to host")) is None


def test_a_database_that_cannot_be_reached_is_unknown(database, monkeypatch):
    """The check reports that it found nothing, without an error."""
    looking = HealthProbe("default")
    own = private_connection("default")
    if connection.vendor == "sqlite":
        own.settings_dict = {**own.settings_dict, "NAME": "/nowhere/at/all.sqlite3"}
    else:
        own.settings_dict = {**own.settings_dict, "HOST": "127.0.0.1", "PORT": "1"}
    looking._connection = own
    freeze, rest = looking.look(TOUCHED)
    assert freeze.state is SignalState.NORMAL
    assert rest.state is SignalState.UNKNOWN


def test_a_transaction_of_innodb_stops(database):
    """Where metadata locks are not visible, any open transaction of this database may hold
    one."""
    only_on("mysql")
    with somebody(f"SELECT count(*) FROM {TABLE}"), looked() as look:
        seen = threading.Event()
        for _ in range(40):  # the server counts in whole seconds
            if look()[SignalName.LONG_TRANSACTION].state is SignalState.STOP:
                seen.set()
                break
            threading.Event().wait(0.1)
    assert seen.is_set()


@pytest.mark.parametrize("how", ["--lock-tables", "--single-transaction"])
def test_a_real_dump_of_mariadb_stops(database, how):
    """With table locks or with a snapshot: it is recognized by the comment in its query,
    while its reader is slow."""
    only_on("mysql")
    tool = shutil.which("mariadb-dump") or shutil.which("mysqldump")
    if tool is None:
        pytest.skip("there is no mariadb-dump on this machine")
    server = connection.settings_dict
    command = [tool, "--no-defaults", "--protocol=tcp", how, "-u", server["USER"]]
    command += ["-h", server["HOST"] or "127.0.0.1", "-P", str(server["PORT"] or 3306)]
    password = {**os.environ, "MYSQL_PWD": server["PASSWORD"]}
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE dumped AS SELECT REPEAT('x', 90) AS text FROM seq_1_to_100000"
        )
    try:
        with (
            looked() as look,
            subprocess.Popen(
                [*command, server["NAME"], "dumped"], stdout=subprocess.PIPE, env=password
            ) as dump,
        ):
            assert dump.stdout is not None
            assert select.select([dump.stdout], [], [], 30)[0]  # its output has started
            found = until(
                lambda: (one := look()[SignalName.DUMP]).state is SignalState.STOP and one,
                seconds=30,
                what="the dump is seen",
            )
            assert f"({server['USER']})" in found.reason
            words, _ = dump.communicate(timeout=60)
            assert dump.returncode == 0
            assert b"INSERT INTO `dumped`" in words
            assert look()[SignalName.DUMP].state is SignalState.NORMAL
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE dumped")


def test_a_writer_that_does_not_come_to_an_end_stops(database):
    """And the check itself leaves no lock behind."""
    only_on("sqlite")
    name = str(connections["default"].settings_dict["NAME"])
    with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with looked() as look:
            assert look()[SignalName.WRITER].state is SignalState.STOP
            other.execute("ROLLBACK")
            assert look()[SignalName.WRITER].state is SignalState.NORMAL
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
