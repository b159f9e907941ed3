"""Tests that a refusal by a database, a file or a setting is a problem that names the
cause."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.test import Client

from migration_route.core.enums import RunState, Scope
from migration_route.ledger import runs
from migration_route.ledger.queries import list_runs
from migration_route.planning.plan import PlanRequest
from migration_route.services.plans import plain_plan
from migration_route.vendors.base import LockSlot
from migration_route.vendors.sqlite.files import SQLiteLock
from tests.factories import History, a_new_run, vendor
from tests.web.conftest import SignIn, sign_in

__all__ = ["sign_in"]

API = "/migrations/api/v1/"
NOBODY = 65534


@contextmanager
def as_role(*aliases: str, read_only: bool, may_read: bool = True) -> Iterator[None]:
    """Connect to these aliases as a role without CREATE, or as a read-only one."""
    kind = vendor()
    role = f"route_role_{os.getpid()}"
    usual = {alias: dict(connections[alias].settings_dict) for alias in aliases}
    names = [connections[alias].settings_dict["NAME"] for alias in aliases]
    admin = connections.create_connection("other")
    if kind == "postgresql":
        granted = aliases if may_read else ()
        _make_postgres_role(admin, role, granted, read_only=read_only)
        words = {"USER": role, "PASSWORD": ""}
    elif kind == "mysql":
        _make_mysql_user(admin, role, names if may_read else [])
        words = {"USER": role, "PASSWORD": ""}
        if read_only:
            statement = "SET SESSION TRANSACTION READ ONLY"
            words["OPTIONS"] = {"init_command": statement}  # type: ignore[assignment]
    else:
        pragma = "PRAGMA query_only = 1"
        words = {"OPTIONS": {"init_command": pragma}}  # type: ignore[dict-item]
    for alias in aliases:
        connections[alias].close()
        connections[alias].settings_dict.update(words)
    try:
        yield
    finally:
        for alias in aliases:
            connections[alias].close()
            connections[alias].settings_dict.update(usual[alias])
        if kind == "postgresql":
            for alias in aliases:
                with connections[alias].cursor() as cursor:
                    cursor.execute(f"DROP OWNED BY {role}")
        if kind != "sqlite":
            with admin.cursor() as cursor:
                user = role if kind == "postgresql" else f"'{role}'@'%'"
                cursor.execute(f"DROP {'ROLE' if kind == 'postgresql' else 'USER'} {user}")
        admin.close()


def _make_postgres_role(
    admin: Any, role: str, aliases: tuple[str, ...], *, read_only: bool
) -> None:
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN")
        if read_only:
            cursor.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    for alias in aliases:
        with connections[alias].cursor() as cursor:
            for what in ("TABLES", "SEQUENCES"):
                cursor.execute(f"GRANT ALL ON ALL {what} IN SCHEMA public TO {role}")


def _make_mysql_user(admin: Any, role: str, names: list[str]) -> None:
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE USER '{role}'@'%'")
        for name in names:
            rights = "SELECT, INSERT, UPDATE, DELETE"
            cursor.execute(f"GRANT {rights} ON `{name}`.* TO '{role}'@'%'")


def machine(path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Call the API as a machine; with a body, by POST."""
    client = Client(raise_request_exception=False)
    if body:
        headers = {"Authorization": "Bearer deployer-secret"}
        kind = "application/json"
        answer = client.post(API + path, body, content_type=kind, headers=headers)
    else:
        answer = client.get(API + path, headers={"Authorization": "Bearer planner-secret"})
    return answer.status_code, answer.json()


def _assert_named(browser: Client, fingerprint: str, *words: str) -> None:
    """Assert that API, page and command name the cause, and no run is created."""
    reason = "é" * 1900  # more than fits into an SQLite page beside the rest of a row
    body = {"targets": ["testapp"], "fingerprint": fingerprint, "reason": reason}
    status, problem = machine("runs", **body)
    assert (status, problem["code"]) == (503, "database_unavailable"), problem
    for word in words:
        assert word in problem["detail"], problem
    assert problem["hint"]
    form = {"database": "default", "target": "testapp", "fingerprint": fingerprint}
    form["reason"] = reason
    answer = browser.post("/migrations/apply/", form)
    text = answer.content.decode()
    assert answer.status_code == 503, text
    assert words[0] in text
    typed = ["apply", "testapp", "--yes", "--no-wait", "--reason", reason]
    with pytest.raises(CommandError) as raised:
        call_command("migration_route", *typed)
    assert raised.value.returncode == 8
    assert words[0] in str(raised.value)
    assert list_runs(database=None, before=None, limit=10) == []


@pytest.fixture
def prepared(
    history: History, sign_in: SignIn, settings: Any
) -> Callable[[], tuple[Client, str]]:
    """Write a history, and sign a staff member in; return their client and the plan.

    The session is in a cookie: this role cannot write tables.
    """
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    history.write("0001_a", "migrations.RunSQL('CREATE TABLE made_a (id integer)')")
    browser = sign_in(*Scope)
    browser.raise_request_exception = False
    plan = plain_plan(PlanRequest(targets=("testapp",)))
    return lambda: (browser, plan.fingerprint)


def test_a_role_that_may_not_create_tables(prepared: Any, empty_database: str) -> None:
    """The ledger cannot be installed, and the error says where and why."""
    if vendor() == "sqlite":
        pytest.skip("SQLite has no roles")
    browser, _ = prepared()
    fingerprint = plain_plan(PlanRequest(targets=("testapp",))).fingerprint
    with as_role(empty_database, read_only=False):
        _assert_named(browser, fingerprint, "privilege", repr(empty_database))


def test_an_empty_database_that_takes_no_writes(prepared: Any, empty_database: str) -> None:
    """A replica, a transaction that is read-only by default, a read-only file."""
    browser, _ = prepared()
    fingerprint = plain_plan(PlanRequest(targets=("testapp",))).fingerprint
    with as_role(empty_database, read_only=True):
        _assert_named(browser, fingerprint, "read-only")


def test_a_ledger_that_takes_no_writes(prepared: Any) -> None:
    """The tables exist; reading works as usual."""
    browser, fingerprint = prepared()
    with as_role("default", read_only=True):
        for path in ("status", "plan", "runs"):
            assert machine(path)[0] == 200
        assert browser.get("/migrations/").status_code == 200
        _assert_named(browser, fingerprint, "read-only")


def test_a_role_that_may_not_read(prepared: Any) -> None:
    """Status reports it for this database; a plan is refused for it."""
    if vendor() == "sqlite":
        pytest.skip("SQLite has no roles")
    prepared()
    with as_role("default", read_only=True, may_read=False):
        status, answer = machine("status")
        assert status == 200
        (found,) = (one for one in answer["databases"] if one["database"] == "default")
        assert "privilege" in str(found), found
        status, problem = machine("plan")
        assert (status, problem["code"]) == (503, "database_unavailable")
        assert "privilege" in problem["detail"]


def test_a_full_disk(prepared: Any) -> None:
    """SQLite reports it when a file has reached its limit."""
    if vendor() != "sqlite":
        pytest.skip("a server's disk is not filled here")
    browser, fingerprint = prepared()
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # otherwise the rows would fit into free pages
    connection.close()
    usual = connection.settings_dict["OPTIONS"]
    command = "PRAGMA max_page_count = 1"
    connection.settings_dict["OPTIONS"] = {**usual, "init_command": command}
    try:
        _assert_named(browser, fingerprint, "no space left")
    finally:
        connection.close()
        connection.settings_dict["OPTIONS"] = usual


def _directory(path: Path) -> None:
    path.mkdir()


def _link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nothing") / "there")


@pytest.mark.parametrize("make", [_directory, _link_to_nowhere])
def test_a_lock_file_that_cannot_be_opened(
    prepared: Any, empty_database: str, make: Any
) -> None:
    """The lock of SQLite is a file beside the database."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has a lock file")
    browser, _ = prepared()
    fingerprint = plain_plan(PlanRequest(targets=("testapp",))).fingerprint
    database = Path(connections[empty_database].settings_dict["NAME"])
    lock = database.with_name(f"{database.name}.route-lock-{LockSlot.SUPERVISOR.value}")
    make(lock)
    _assert_named(browser, fingerprint, "cannot be used", lock.name)


def test_a_lost_run_whose_lock_file_cannot_be_opened_can_be_read(prepared: Any) -> None:
    """Reading a run checks whether it is alive."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has a lock file")
    browser, _ = prepared()
    run, _ = runs.create_run(a_new_run())
    runs.move(run.id, to=RunState.RUNNING, expected={RunState.QUEUED})
    runs.move(run.id, to=RunState.LOST, expected={RunState.RUNNING})
    database = Path(connections["default"].settings_dict["NAME"]).resolve()
    lock = database.with_name(f"{database.name}.route-lock-{LockSlot.SUPERVISOR.value}")
    lock.mkdir()
    try:
        assert machine("status")[0] == 200
        assert machine(f"runs/{run.id}")[0] in {200, 403}
        assert browser.get(f"/migrations/runs/{run.id}/").status_code == 200
    finally:
        lock.rmdir()


def _as_nobody(work: Callable[[], bool]) -> bool:
    """Return what another user of this host gets, in a process of theirs."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _can_lock(database: Path) -> bool:
    lock = SQLiteLock(database, LockSlot.SUPERVISOR)
    try:
        return lock.try_acquire() and lock.release()
    except OperationalError:
        return False


def test_the_lock_file_may_be_used_by_whoever_may_write_the_database() -> None:
    """A command run by root leaves no lock file that the server cannot use."""
    if os.geteuid():
        pytest.skip("only root can start a process of another user")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    database = folder / "shop.sqlite3"
    try:
        database.touch(mode=0o600)
        os.chown(database, NOBODY, NOBODY)
        killed = SQLiteLock(database, LockSlot.SUPERVISOR)
        assert killed.try_acquire()
        assert not _as_nobody(lambda: _can_lock(database))  # the lock is held
        assert killed._descriptor is not None
        os.close(killed._descriptor)  # the file stays, as after a killed process
        assert _as_nobody(lambda: _can_lock(database))
        path = database.with_name(f"{database.name}.route-lock-{LockSlot.SUPERVISOR.value}")
        path.touch(mode=0o600)  # owned by root
        assert not _as_nobody(lambda: _can_lock(database))
    finally:
        shutil.rmtree(folder)
