"""Tests that the server identifies the copy and the original."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import psycopg
import pytest
from django.db import connections

from migration_route.conf.databases import using_private_connection
from migration_route.core.errors import CannotRehearse, Misconfigured
from migration_route.execution.rehearsal import runner
from migration_route.vendors import copies_of, identity_of, vendor_of
from migration_route.vendors.base import LockSlot
from migration_route.vendors.base_rehearsal import (
    connection_with_settings,
    require_copy,
    require_separate,
    scratch_name,
)

pytestmark = pytest.mark.usefixtures("database")


def quiet() -> None:
    """Return a callback that lets a copy continue."""


def new_name() -> str:
    return scratch_name(secrets.token_hex(16))


def applied(connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_migrations")
        return int(cursor.fetchone()[0])


@contextlib.contextmanager
def copied(connection, *, with_data=True):
    """Make a copy, and yield a connection to it."""
    copies, name = copies_of("default"), new_name()
    copies.make(connection, name, with_data=with_data, alive=quiet)
    try:
        with connection_with_settings(
            connection, copies.settings(connection.settings_dict, name)
        ) as copy:
            yield copy
    finally:
        copies.remove(connection, name)


@contextlib.contextmanager
def alias(monkeypatch, name, **changes):
    """Add another alias, with the settings of `default` and these changes."""
    entry = {**connections.settings["default"], **changes}
    monkeypatch.setitem(connections.settings, name, entry)
    try:
        yield name
    finally:
        connections[name].close()
        del connections[name]


def same_database(tmp_path):
    """Return other settings that lead to the database of `default`, each with a name."""
    settings = connections["default"].settings_dict
    name, options = settings["NAME"], settings["OPTIONS"]
    match connections["default"].vendor:
        case "sqlite":
            linked, hard = tmp_path / "linked", tmp_path / "hard"
            linked.symlink_to(name)
            Path(name).touch()
            with contextlib.suppress(OSError):  # another disk
                os.link(name, hard)
            yield {"NAME": str(linked)}
            yield {"NAME": f"file:{name}?cache=private"}
            yield {"NAME": str(tmp_path / "x"), "OPTIONS": {**options, "database": name}}
            if hard.exists():
                yield {"NAME": str(hard)}
        case "postgresql":
            yield {"HOST": "localhost"}
            yield {"NAME": "postgres", "OPTIONS": {**options, "dbname": name}}
            yield {"OPTIONS": {**options, "options": "-c search_path=pg_catalog"}}
        case _:
            yield {"HOST": "localhost" if settings["HOST"] == "127.0.0.1" else "127.0.0.1"}
            yield {"NAME": "", "OPTIONS": {**options, "database": name}}
            yield {"NAME": "mysql", "OPTIONS": {**options, "database": name}}
            yield {"NAME": "mysql", "OPTIONS": {**options, "init_command": f"USE `{name}`"}}


def test_two_databases_are_told_apart():
    """Of one server, or two files."""
    with (
        using_private_connection("default") as original,
        using_private_connection("other") as other,
    ):
        found = require_separate(original, other)
        assert found.original.is_known
        assert found.original != found.copy
        assert identity_of(original) == found.original


def test_another_way_to_the_database_is_no_copy(monkeypatch, tmp_path):
    """It is refused as the database to rehearse on, however it is spelled."""
    for changes in same_database(tmp_path):
        with (
            using_private_connection("default") as original,
            alias(monkeypatch, "way", **changes),
            pytest.raises(CannotRehearse, match="same database"),
        ):
            runner.require_other_database("default", original, "way")
    with using_private_connection("default") as original:
        assert runner.require_other_database("default", original, "other").copy.is_known


def test_settings_that_lead_back_to_the_original_are_refused(monkeypatch):
    """Before anything is restored: it loses nothing, and neither does the database beside
    it."""
    copies, name = copies_of("default"), new_name()
    kept = connections["default"]
    before = applied(kept)
    for with_data in (False, True):
        with (
            using_private_connection("default") as connection,
            monkeypatch.context() as patch,
        ):
            patch.setattr(
                type(copies), "settings", lambda self, settings, name: {**settings}
            )
            try:
                with pytest.raises(CannotRehearse, match="are the same database"):
                    copies.make(connection, name, with_data=with_data, alive=quiet)
            finally:
                patch.undo()
                copies.remove(connection, name)
        assert applied(kept) == before


def test_a_copy_that_is_another_database_than_expected_is_refused(monkeypatch):
    """A backend that overrides NAME may connect to any of them."""
    copies, name, other = copies_of("default"), new_name(), connections["other"]
    before = applied(other)
    with using_private_connection("default") as connection, monkeypatch.context() as patch:
        patch.setattr(
            type(copies), "settings", lambda self, settings, name: {**other.settings_dict}
        )
        try:
            with pytest.raises(CannotRehearse, match="instead"):
                copies.make(connection, name, with_data=True, alive=quiet)
        finally:
            patch.undo()
            copies.remove(connection, name)
    assert applied(other) == before


def test_an_original_is_never_removed():
    """Not even one with the name of a copy."""
    with using_private_connection("default") as connection, copied(connection) as copy:
        before = applied(copy)
        with pytest.raises(CannotRehearse, match="itself"):
            copies_of("default").remove(copy, name_of(copy))
        assert applied(copy) == before


def name_of(copy) -> str:
    return Path(copy.settings_dict["NAME"]).name.removesuffix(".sqlite3")


def test_the_lock_is_that_of_the_database(monkeypatch, tmp_path):
    """Aliases with other settings for the same database share it."""
    for changes in same_database(tmp_path):
        if "search_path" in str(changes) or changes.get("NAME", "").endswith("hard"):
            continue  # each schema has its own lock; SQLite forbids hard links
        with (
            using_private_connection("default") as first,
            alias(monkeypatch, "way", **changes),
            using_private_connection("way") as second,
        ):
            lock = vendor_of("default").lock(first, LockSlot.SUPERVISOR)
            other = vendor_of("way").lock(second, LockSlot.SUPERVISOR)
            assert lock.try_acquire()
            assert not other.try_acquire(), changes
            assert other.holder() == lock.holder()
            assert lock.release()


def test_a_connection_without_a_database_has_no_lock(monkeypatch):
    """MySQL allows a connection to the server alone."""
    if connections["default"].vendor != "mysql":
        pytest.skip("elsewhere there is always a database")
    with alias(monkeypatch, "way", NAME=""), using_private_connection("way") as connection:
        with pytest.raises(Misconfigured, match="no database"):
            vendor_of("way").lock(connection, LockSlot.SUPERVISOR).try_acquire()
        with (
            using_private_connection("default") as original,
            pytest.raises(CannotRehearse, match="does not report"),
        ):
            require_separate(original, connection)


class TestOnPostgreSQL:
    """Roles and privileges."""

    @pytest.fixture(autouse=True)
    def on_postgres(self):
        if connections["default"].vendor != "postgresql":
            pytest.skip("only PostgreSQL has them")

    @pytest.fixture
    def roles(self):
        """A role that owns objects, and a user who logs in and assumes it."""
        mark = secrets.token_hex(4)
        owner, user = f"owner_{mark}", f"user_{mark}"
        connection = connections["default"]
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {owner} NOLOGIN CREATEDB")
            cursor.execute(f"CREATE ROLE {user} LOGIN NOINHERIT IN ROLE {owner}")
        yield owner, user
        with connection.cursor() as cursor:
            cursor.execute(f"DROP OWNED BY {owner}, {user}")
            cursor.execute(f"DROP ROLE {user}, {owner}")

    def test_a_copy_is_closed_before_anything_is_in_it(self, monkeypatch, roles):
        """Only its owner can connect, even during its creation."""
        from migration_route.vendors.postgresql import copies as module

        _, user = roles
        name, tried = new_name(), []

        def alive():
            tried.append(self.may_connect(user, name))

        with using_private_connection("default") as connection:
            copies = copies_of("default")
            seen = []

            def watched(*args, **words):
                seen.append(self.may_connect(user, name))
                return require_copy(*args, **words)

            monkeypatch.setattr(module, "require_copy", watched)
            try:
                copies.make(connection, name, with_data=True, alive=alive)
                assert not self.may_connect(user, name)
            finally:
                copies.remove(connection, name)
        assert seen == [False]
        assert tried
        assert not any(tried)

    def may_connect(self, user, name):
        settings = connections["default"].settings_dict
        try:
            psycopg.connect(
                host=settings["HOST"], port=settings["PORT"] or 5432, user=user, dbname=name
            ).close()
        except psycopg.OperationalError as error:
            if "permission denied for database" not in str(error):
                raise
            return False
        return True

    def test_what_was_taken_from_everybody_stays_taken(self):
        """Of routines, types and schemas; other grants stay."""
        mark = f"priv_{secrets.token_hex(4)}"
        made = (
            f"CREATE SCHEMA {mark}",
            f"REVOKE ALL ON SCHEMA {mark} FROM PUBLIC",
            f"CREATE SCHEMA {mark}_open",
            f"GRANT USAGE ON SCHEMA {mark}_open TO PUBLIC",
            f"CREATE TYPE {mark}.\"od d\" AS ENUM ('a')",
            f'REVOKE USAGE ON TYPE {mark}."od d" FROM PUBLIC',
            f"CREATE FUNCTION {mark}.f(int[], VARIADIC text[]) RETURNS int "
            "LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            f"REVOKE EXECUTE ON FUNCTION {mark}.f(int[], text[]) FROM PUBLIC",
            f"CREATE PROCEDURE {mark}.p({mark}.\"od d\") LANGUAGE sql AS 'SELECT 1'",
            f'REVOKE EXECUTE ON PROCEDURE {mark}.p({mark}."od d") FROM PUBLIC',
            f"CREATE FUNCTION {mark}.g() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        )
        asked = (
            f"has_schema_privilege('public', '{mark}', 'USAGE')",
            f"has_type_privilege('public', '{mark}.\"od d\"', 'USAGE')",
            f"has_function_privilege('public', '{mark}.f(int[], text[])', 'EXECUTE')",
            f"has_function_privilege('public', '{mark}.p({mark}.\"od d\")', 'EXECUTE')",
            f"has_function_privilege('public', '{mark}.g()', 'EXECUTE')",
        )
        with connections["default"].cursor() as cursor:
            for statement in made:
                cursor.execute(statement)
        try:
            for with_data in (False, True):
                with (
                    using_private_connection("default") as connection,
                    copied(connection, with_data=with_data) as copy,
                    copy.cursor() as cursor,
                ):
                    cursor.execute(f"SELECT {', '.join(asked)}")
                    assert cursor.fetchone() == (False, False, False, False, True)
        finally:
            with connections["default"].cursor() as cursor:
                cursor.execute(f"DROP SCHEMA {mark} CASCADE")
                cursor.execute(f"DROP SCHEMA {mark}_open CASCADE")

    def test_a_role_that_is_assumed_owns_the_copy(self, roles):
        """The login user has no rights of its own: the dump and the restore need the
        role."""
        owner, user = roles
        name = f"assumed_{secrets.token_hex(4)}"
        admin = connections["default"]
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} OWNER {owner}")
        words = {"USER": user, "NAME": name, "OPTIONS": {"assume_role": owner}}
        try:
            with connection_with_settings(admin, words) as connection:
                with connection.cursor() as cursor:
                    cursor.execute("CREATE TABLE secret_of_the_owner (id int)")
                    cursor.execute("INSERT INTO secret_of_the_owner VALUES (1), (2)")
                copies_of("default").require(connection, with_data=True)
                with copied(connection) as copy, copy.cursor() as cursor:
                    cursor.execute(
                        "SELECT count(*), current_user, (SELECT tableowner FROM pg_tables "
                        "WHERE tablename = 'secret_of_the_owner') FROM secret_of_the_owner"
                    )
                    assert cursor.fetchone() == (2, owner, owner)
                    schema = copies_of("default").schema(copy)
                    assert any("secret_of_the_owner" in line for line in schema)
        finally:
            with admin.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}")
