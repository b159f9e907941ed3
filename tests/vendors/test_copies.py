"""Tests of which databases may be dropped, and of statements with effects outside of a
copy."""

from __future__ import annotations

import pytest

from migration_route.core.errors import CannotRehearse
from migration_route.vendors import base_rehearsal, copies_of
from migration_route.vendors.base_rehearsal import connection_with_settings, find_tool, pipe
from migration_route.vendors.mysql import copies as mysql
from migration_route.vendors.mysql.copies import COPIES as MYSQL
from migration_route.vendors.postgresql.copies import COPIES as POSTGRESQL
from migration_route.vendors.postgresql.copies import client_connection
from migration_route.vendors.sqlite.copies import COPIES as SQLITE

ID = "0" * 31 + "a"


def test_only_a_name_of_ours_is_one():
    """A prefix, a suffix or another pattern is foreign."""
    name = base_rehearsal.scratch_name(ID)
    assert base_rehearsal.is_scratch_name(name)
    for other in (
        "postgres",
        "migration_route_rehearsal_",
        f"{name}0",
        f"x{name}",
        name.upper(),
        f"{name}\n",
        f"{name}; DROP DATABASE postgres",
    ):
        assert not base_rehearsal.is_scratch_name(other)


@pytest.mark.parametrize("copies", [POSTGRESQL, MYSQL, SQLITE])
def test_nothing_else_is_removed(copies):
    """It is refused before the connection is used."""
    with pytest.raises(CannotRehearse):
        copies.remove(None, "postgres")


@pytest.mark.parametrize(
    ("copies", "sql"),
    [
        (POSTGRESQL, "CREATE ROLE reader"),
        (POSTGRESQL, "  alter user web SET search_path = x"),
        (POSTGRESQL, "DROP DATABASE shop"),
        (POSTGRESQL, "SELECT 1; CREATE TABLESPACE fast LOCATION '/x'"),
        (POSTGRESQL, "ALTER SYSTEM SET wal_level = 'logical'"),
        (POSTGRESQL, "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p"),
        (POSTGRESQL, "GRANT admin TO web"),
        (POSTGRESQL, "DO $$ BEGIN CREATE ROLE reader; END $$"),
        (POSTGRESQL, "DO $$ BEGIN EXECUTE 'CREATE ROLE reader'; END $$"),
        (MYSQL, "CREATE USER web"),
        (MYSQL, "GRANT SELECT ON shop.* TO web"),
        (MYSQL, "SET GLOBAL max_connections = 5"),
        (MYSQL, "USE home"),
        (MYSQL, "UPDATE home.item SET name = ''"),
        (MYSQL, "INSERT INTO `home`.`item` VALUES (1)"),
        (MYSQL, "DROP DATABASE home"),
        (SQLITE, "ATTACH DATABASE 'x' AS y"),
        (SQLITE, "VACUUM INTO 'x'"),
    ],
)
def test_what_reaches_beyond_a_copy_is_found(copies, sql):
    """It would change the live server."""
    assert copies.leaves(sql, "home")


@pytest.mark.parametrize(
    ("copies", "sql"),
    [
        (POSTGRESQL, 'ALTER TABLE "user" ADD COLUMN "role" varchar(10)'),
        (POSTGRESQL, "ALTER TABLE item DROP database"),
        (POSTGRESQL, "GRANT SELECT ON item TO web"),
        (POSTGRESQL, "INSERT INTO note VALUES ('please; create role x')"),
        (POSTGRESQL, "CREATE EXTENSION hstore"),
        (POSTGRESQL, "CREATE INDEX CONCURRENTLY by_name ON item (name)"),
        (MYSQL, "ALTER TABLE `user` ADD COLUMN `role` varchar(10)"),
        (MYSQL, "SELECT `home`.`id` FROM `home`"),
        (MYSQL, "SET SESSION sql_mode = ''"),
        (SQLITE, 'CREATE TABLE "attach" (id integer)'),
        (SQLITE, "VACUUM"),
    ],
)
def test_what_stays_inside_is_let_through(copies, sql):
    """An ordinary migration is not affected."""
    assert copies.leaves(sql, "home") == ""


def test_a_copy_is_made_and_removed(database):
    """With the requested rows, under a new name."""
    from django.db import connections

    from migration_route.conf.databases import using_private_connection

    name = base_rehearsal.scratch_name(ID)
    with using_private_connection("default") as connection:
        copies = copies_of("default")
        for with_data in (False, True):
            copies.require(connection, with_data=with_data)
            copies.make(connection, name, with_data=with_data, alive=lambda: None)
            copy = connection.copy()
            copy.settings_dict = copies.settings(connection.settings_dict, name)
            try:
                with copy.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM django_migrations")
                    (count,) = cursor.fetchone()
                assert count > 10
                assert copies.schema(copy) == copies.schema(connections["default"])
            finally:
                copy.close()
                copies.remove(connection, name)
                copies.remove(connection, name)  # nor is it an error that it does not exist


def test_a_password_is_never_an_argument(database):
    """Every user on the host can read arguments."""
    from django.db import connections

    connection = connections["default"]
    if connection.vendor == "sqlite":
        pytest.skip("a file has no password")
    settings = {**connection.settings_dict, "PASSWORD": "very-secret"}
    if connection.vendor == "mysql":
        arguments, environment = mysql._client_arguments(settings, "shop")
        assert arguments[-1] == "shop"
    else:
        with connection_with_settings(connection, settings) as other:
            way = client_connection(other, database="shop")
        arguments, environment = list(way.arguments), way.environment
        assert "dbname='shop'" in arguments[-1]
    assert "very-secret" not in " ".join(arguments)
    assert "very-secret" in environment.values()


def test_an_option_file_does_not_widen_a_dump(tmp_path):
    """Only the arguments are tested: what they prevent would affect every database of the
    server, so no test restores anything with such a file."""
    path = tmp_path / "my.cnf"
    path.write_text("[client]\nhost=db.invalid\n[mysqldump]\nall-databases\n")
    arguments, _ = mysql._client_arguments(
        {"NAME": "", "USER": "", "PASSWORD": "", "HOST": "", "PORT": "",
         "OPTIONS": {"read_default_file": str(path), "database": "other"}},
        "shop",
    )  # fmt: skip
    assert arguments[0] == f"--defaults-file={path}"
    assert arguments[-1] == "shop"
    assert {"--skip-all-databases", "--skip-databases"} <= set(mysql._ONE_DATABASE)
    assert {"--skip-force", "--one-database"} <= set(mysql._LOAD)


def test_a_user_who_may_not_create_databases_is_told_what_to_do(database):
    """Before anything has started."""
    from django.db import connections

    connection = connections["default"]
    if connection.vendor != "postgresql":
        pytest.skip("the right is PostgreSQL's")
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS rehearsal_of_nothing")
        cursor.execute("CREATE ROLE rehearsal_of_nothing LOGIN")
    poor = connection.copy()
    poor.settings_dict = {**connection.settings_dict, "USER": "rehearsal_of_nothing"}
    try:
        with pytest.raises(CannotRehearse, match="may not create databases") as refused:
            copies_of("default").require(poor, with_data=False)
        assert "CREATEDB" in refused.value.hint
    finally:
        poor.close()
        with connection.cursor() as cursor:
            cursor.execute("DROP ROLE rehearsal_of_nothing")


def test_a_program_that_is_missing_is_named():
    """With the package that provides it."""
    with pytest.raises(CannotRehearse, match="no-such-dump") as missing:
        find_tool("no-such-dump", of="some-client")
    assert "some-client" in missing.value.hint


def test_a_program_that_fails_is_quoted_without_secrets():
    """The other one is not waited for."""
    with pytest.raises(CannotRehearse, match="went wrong"):
        pipe(
            ["sh", "-c", "echo rows"],
            ["sh", "-c", "echo it went wrong >&2; exit 3"],
            {},
            alive=lambda: None,
        )


def test_a_copy_that_is_to_stop_ends_both_programs():
    """An exception of the callback is propagated."""

    class Enough(Exception):
        pass

    def alive():
        raise Enough

    with pytest.raises(Enough):
        pipe(["sleep", "600"], ["sleep", "600"], {}, alive=alive)
