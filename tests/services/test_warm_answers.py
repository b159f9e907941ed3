"""Tests that `status`, `ready` and "nothing pending" cost one query a database while
nothing changes, that the next answer shows every change, and that databases are read side
by side."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Scope
from migration_route.core.errors import DatabaseUnavailable
from migration_route.planning import recorders
from migration_route.planning.graph import read_graph
from migration_route.planning.plan import DatabaseStatus, Plan, PlanRequest
from migration_route.planning.recorders import open_recorders, read_recorders
from migration_route.services import plans, runs
from tests.factories import an_actor, tables, vendor

RECORDER = "django_migrations"
PATIENCE = 0.5  # seconds


def status() -> dict[str, DatabaseStatus]:
    return {found.database: found for found in runs.status(an_actor(Scope.READ))}


def plan() -> Plan:
    actor = an_actor(Scope.READ, Scope.PLAN)
    return plans.plan(PlanRequest(database="default"), actor)


def record(name: str, alias: str = "default") -> None:
    MigrationRecorder(connections[alias]).record_applied("testapp", name)


@pytest.fixture
def applied(history: Any) -> Iterator[Any]:
    """A history whose only migration is applied to both databases."""
    path = history.table("0001_a", "warm_a")
    usual = MigrationRecorder(connections["other"]).migration_qs.filter(app="testapp")
    names = list(usual.values_list("name", flat=True))
    usual.delete()
    for alias in ("default", "other"):
        record("0001_a", alias)
        read_graph(alias)  # Python creates its cache folder beside the migrations
    status()
    yield path
    recorder = MigrationRecorder(connections["other"])
    recorder.migration_qs.filter(app="testapp").delete()
    for name in names:
        recorder.record_applied("testapp", name)


@contextmanager
def statements() -> Iterator[list[tuple[str, str]]]:
    """Collect the statements of every connection: alias and SQL."""
    seen: list[tuple[str, str]] = []

    def watch(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        seen.append((context["connection"].alias, sql))
        return execute(sql, params, many, context)

    def connected(connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(watch)

    connection_created.connect(connected)
    usual = [connections[alias] for alias in connections]
    for connection in usual:
        connection.execute_wrappers.append(watch)
    try:
        yield seen
    finally:
        connection_created.disconnect(connected)
        for connection in usual:
            connection.execute_wrappers.remove(watch)


def of_recorders(seen: list[tuple[str, str]]) -> list[str]:
    """Return the alias of each statement that reads a recorder."""
    return sorted(alias for alias, sql in seen if RECORDER in sql)


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections and never answer; yields the port."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    accepted.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The alias of a database whose server accepts connections and never answers."""
    monkeypatch.setattr(recorders, "TIMEOUT", PATIENCE)
    with silent_server() as port:
        entry = {
            **connections.settings["default"],
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "silent",
            "USER": "postgres",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "OPTIONS": {},
        }
        with monkeypatch.context() as patch:
            patch.setitem(connections.settings, "silent", entry)
            yield "silent"
        del connections["silent"]


def test_a_warm_answer_is_one_query_a_database(applied):
    """Beside the recorders, `status` reads only the ledger, and `ready` nothing; a plan
    without steps reads the rows of each recorder once as well."""
    for answer in (status, runs.ready):
        answer()
        with statements() as seen:
            answer()
        assert of_recorders(seen) == ["default", "other"], seen
        assert all(sql.startswith("SELECT") for _, sql in seen if RECORDER in sql)
        assert len([sql for _, sql in seen if "FROM" in sql and RECORDER not in sql]) <= (
            answer is status
        )
    plan()
    with statements() as seen:
        assert plan().steps == ()
    rows = [alias for alias, sql in seen if sql.startswith("SELECT app, name")]
    assert sorted(rows) == ["default", "other"], seen


def test_a_warm_answer_builds_no_loader_graph_or_plan(applied, monkeypatch):
    """An unchanged set of rows is compared, not planned."""
    assert (status()["default"].pending, runs.ready()) == ((), True)
    assert plan().steps == ()
    built: list[str] = []

    def watched(owner: Any, name: str) -> None:
        usual = getattr(owner, name)

        def call(*words: Any, **named: Any) -> Any:
            built.append(f"{owner.__name__}.{name}")
            return usual(*words, **named)

        monkeypatch.setattr(owner, name, call)

    watched(MigrationLoader, "__init__")
    watched(MigrationLoader, "build_graph")
    watched(MigrationGraph, "__init__")
    watched(MigrationExecutor, "migration_plan")
    assert (status()["default"].pending, runs.ready()) == ((), True)
    assert plan().steps == ()
    assert built == []


def test_the_request_keeps_its_connections_closed(applied):
    """The recorders are read on other connections, which are closed afterwards."""
    connections.close_all()
    assert runs.ready()
    assert [alias for alias in connections if connections[alias].connection] == []


def test_a_row_that_is_written_or_deleted_changes_the_next_answer(applied, history):
    history.table("0002_b", "warm_b")
    assert (status()["default"].pending, runs.ready()) == (("testapp.0002_b",), False)
    assert [step.name for step in plan().steps] == ["0002_b"]
    fingerprint = plan().fingerprint
    record("0002_b")
    record("0002_b", "other")
    assert (status()["default"].pending, runs.ready()) == ((), True)
    assert plan().steps == ()
    count = status()["default"].applied
    MigrationRecorder(connections["default"]).record_unapplied("testapp", "0002_b")
    found = status()
    assert found["default"].pending == ("testapp.0002_b",)
    assert found["default"].applied == (count or 0) - 1
    assert found["other"].pending == ()
    assert not runs.ready()
    assert plan().fingerprint == fingerprint


def test_a_row_in_exchange_for_another_one_changes_the_next_answer(applied, history):
    """The same number of rows is not the same set."""
    assert runs.ready()
    MigrationRecorder(connections["default"]).record_unapplied("testapp", "0001_a")
    record("0009_unknown")
    found = status()["default"]
    assert found.pending == ("testapp.0001_a",)
    assert found.ahead == ("testapp.0009_unknown",)


def test_a_new_file_changes_the_next_answer(applied, history):
    assert runs.ready()
    path = history.table("0002_b", "warm_b")
    assert not runs.ready()
    path.unlink()
    assert runs.ready()


def test_a_release_in_the_place_of_a_folder_changes_the_next_answer(applied, history):
    """Its folder may have the same time as the one before it, as in an image with
    normalized times."""
    assert runs.ready()
    folder, other = history.folder, history.folder.with_name("release")
    shutil.copytree(folder, other)
    history.table("0002_b", "warm_b")
    shutil.move(folder / "0002_b.py", other)
    os.utime(folder, ns=(10**18, 10**18))
    os.utime(other, ns=(10**18, 10**18))
    assert runs.ready()
    folder.rename(folder.with_name("before"))
    other.rename(folder)
    os.utime(folder, ns=(10**18, 10**18))
    assert not runs.ready()


def test_a_setting_changes_the_next_answer(applied, history, settings):
    """Both which databases count, and which migrations there are."""
    MigrationRecorder(connections["other"]).record_unapplied("testapp", "0001_a")
    assert not runs.ready()
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "READY_DATABASES": ["default"]}
    assert runs.ready()
    settings.MIGRATION_MODULES = {}
    assert not runs.ready()
    assert set(status()["default"].ahead) == {"testapp.0001_a"}


def test_an_empty_database_has_nothing_applied(empty_database):
    """Without the table of the recorder; reading does not create it."""
    assert read_recorders([empty_database]) == {empty_database: frozenset()}
    assert tables(empty_database) == set()


def test_a_silent_database_does_not_delay_the_others(applied, silent):
    """Two silent databases would take twice as long one after the other."""
    for answer in (status, runs.ready):
        start = time.monotonic()
        answer()
        assert PATIENCE <= time.monotonic() - start < 2 * PATIENCE
    found = status()
    assert found["default"].reachable
    assert found["other"].reachable
    assert found["default"].applied
    assert not found[silent].reachable
    assert "does not answer" in str(found[silent].problem)
    assert not runs.ready()


def test_a_silent_database_does_not_hide_the_plan_of_another(applied, silent):
    start = time.monotonic()
    assert plan().steps == ()
    assert time.monotonic() - start < 3 * PATIENCE


def test_a_silent_ledger_hides_no_database(applied, silent, settings):
    """It is not asked a second time, on a connection without a limit."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LEDGER_DATABASE": silent}
    start = time.monotonic()
    with open_recorders(["default", silent]) as reading:
        problem = reading.problem_of(silent)
        found = reading.read()
    assert time.monotonic() - start < 2 * PATIENCE
    assert isinstance(problem, DatabaseUnavailable)
    assert isinstance(found["default"], frozenset)
    assert runs._from_ledger(problem)[0] is problem


def test_a_locked_recorder_is_given_up(applied, monkeypatch):
    """The server ends the statement as well: no session is left waiting."""
    if vendor() != "postgresql":
        pytest.skip("only PostgreSQL locks a table against readers for so long")
    monkeypatch.setattr(recorders, "TIMEOUT", PATIENCE)
    holder = connections["default"].copy()
    holder.set_autocommit(False)
    try:
        with holder.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {RECORDER}")
            found = read_recorders(["default", "other"])
            assert isinstance(found["default"], DatabaseUnavailable)
            assert isinstance(found["other"], frozenset)
            deadline = time.monotonic() + 10
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            cursor.execute(waiting)
            while cursor.fetchone() != (0,):
                assert time.monotonic() < deadline
                cursor.execute(waiting)
    finally:
        holder.close()
    assert isinstance(read_recorders(["default"])["default"], frozenset)


def test_a_database_in_memory_is_read_on_the_connection_that_has_it(applied, monkeypatch):
    """Another connection would open another, empty database."""
    entry = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "OPTIONS": {},
    }
    monkeypatch.setitem(connections.settings, "memory", entry)
    try:
        MigrationRecorder(connections["memory"]).record_applied("testapp", "0001_a")
        expected = frozenset({("testapp", "0001_a")})
        assert read_recorders(["memory", "default"])["memory"] == expected
    finally:
        connections["memory"].connection.close()  # Django keeps one in memory open
        del connections["memory"]


def test_the_json_of_a_warm_answer_is_the_same(applied, client):
    """Over HTTP, a second `ready` equals the first one."""
    first = client.get("/migrations/api/v1/ready")
    again = client.get("/migrations/api/v1/ready")
    assert json.loads(first.content) == json.loads(again.content) == {"ready": True}
