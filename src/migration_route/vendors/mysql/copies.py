"""Copies of MySQL and MariaDB databases by mysqldump and mysql, and the interception of
connections that bypass Django. A rehearsal in place is not possible."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.mysql.client import DatabaseClient

from migration_route.core.errors import CannotRehearse
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_rehearsal import (
    TABLES_READ_BY_MIGRATE,
    CheckAlive,
    Copies,
    InPlaceSupport,
    StatementEffects,
    StatementObserver,
    connection_with_settings,
    find_tool,
    pipe,
    read_from,
    require_copy,
    require_removable,
    require_room,
    verify_session,
)
from migration_route.vendors.mysql.catalog import current_database
from migration_route.vendors.mysql.locks import dialect_of_session
from migration_route.vendors.sql_lexer import (
    MYSQL,
    MYSQL_MODES,
    Dialect,
    LexemeKind,
    TooManyReadings,
    readings,
)
from migration_route.vendors.sql_statements import SqlStatement, parts_of


def _watched(
    original: Callable[..., Any],
    look: Callable[[str], None],
    verify: Callable[[Any], None] | None,
) -> Callable[..., Any]:
    def connect(*args: Any, **options: Any) -> Any:
        # (host, user, password, database) by position, in MySQLdb
        by_position = args[3] if len(args) > 3 else ""
        look(str(options.get("database") or options.get("db") or by_position))
        return verify_session(original(*args, **options), verify)

    connect.is_watched = True  # type: ignore[attr-defined]
    return connect


# One transaction, so that no session is blocked; no events, which would run in the copy.
_DUMP = ("--single-transaction", "--quick", "--skip-lock-tables", "--skip-add-locks")
# An option file must not widen the dump, nor let the reader continue after an error.
_ONE_DATABASE = ("--skip-databases", "--skip-all-databases")
_LOAD = ("--skip-force", "--one-database")
_SCHEMA = ("--no-data", "--skip-dump-date", "--skip-comments")
_REQUIREMENTS = """
SELECT
(SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'CREATE'),
(SELECT COUNT(*) FROM information_schema.SCHEMA_PRIVILEGES
 WHERE PRIVILEGE_TYPE = 'CREATE' AND 'migration_route_rehearsal_x' LIKE TABLE_SCHEMA),
CURRENT_USER(),
(SELECT SUM(DATA_LENGTH + INDEX_LENGTH) FROM information_schema.TABLES
 WHERE TABLE_SCHEMA = DATABASE()),
@@datadir
"""
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")


class MySQLCopies(Copies):
    name_options = ("database", "db")

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Check for the programs, the privilege to create databases, and space."""
        _dump_tool()
        _client_tool()
        [(may_create, may_create_copy, user, size, folder)] = fetch_rows(
            connection, _REQUIREMENTS
        )
        if not may_create and not may_create_copy:
            raise CannotRehearse(
                f"The user {user!r} may not create databases.",
                hint="Run GRANT ALL ON `migration\\_route\\_rehearsal\\_%`.* TO that user, "
                "or set a database to rehearse on in "
                'MIGRATION_ROUTE["DATABASES"][…]["rehearsal_alias"].',
            )
        if with_data:
            require_room(connection, int(size or 0), str(folder))

    def make(
        self,
        connection: BaseDatabaseWrapper,
        name: str,
        *,
        with_data: bool,
        alive: CheckAlive,
    ) -> None:
        """Create an empty database with the same collation, and restore a dump into it."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@character_set_database, @@collation_database")
            charset, collation = cursor.fetchone()
            cursor.execute(
                f"CREATE DATABASE `{name}` CHARACTER SET {charset} COLLATE {collation}"
            )
            tables = set(connection.introspection.table_names(cursor))
        with connection_with_settings(
            connection, self.settings(connection.settings_dict, name)
        ) as copy:
            require_copy(connection, copy, name=name)
        kind = [] if with_data else ["--no-data"]
        self._restore(connection, name, kind, [], alive)
        rows = [table for table in TABLES_READ_BY_MIGRATE if table in tables]
        if rows and not with_data:
            only = ["--no-create-info", "--skip-triggers"]
            self._restore(connection, name, only, rows, alive)
        _refuse_references_to_original(connection, name)

    def _restore(
        self,
        connection: BaseDatabaseWrapper,
        name: str,
        options: list[str],
        tables: list[str],
        alive: CheckAlive,
    ) -> None:
        settings = connection.settings_dict
        source, environment = _client_arguments(
            settings, current_database(connection.connection)
        )
        into, _ = _client_arguments(settings, name)
        dump = [_dump_tool(), *source[:1], *_DUMP, *_ONE_DATABASE, *options, *source[1:]]
        load = [_client_tool(), *into[:1], *_LOAD, *into[1:]]
        # The name belongs to the database that has just been created: no other can be used.
        head = f"USE `{name}`;\n".encode()
        pipe([*dump, *tables], load, environment, alive=alive, head=head)

    def remove(self, connection: BaseDatabaseWrapper, name: str) -> None:
        require_removable(connection, name)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = %s", [name]
            )
            for (session,) in cursor.fetchall():
                with suppress(DatabaseError):  # it has just ended by itself
                    cursor.execute(f"KILL {int(session)}")
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def schema(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the schema as mysqldump writes it, without counters."""
        connection.ensure_connection()
        database = current_database(connection.connection)
        arguments, environment = _client_arguments(connection.settings_dict, database)
        dump = [*arguments[:1], *_DUMP, *_ONE_DATABASE, *_SCHEMA, *arguments[1:]]
        text = read_from([_dump_tool(), *dump], environment)
        return [
            _COUNTER.sub("", line)
            for line in text.splitlines()
            if line and not line.startswith(("--", "/*"))
        ]

    def leaves(
        self, sql: str, home: str, connection: BaseDatabaseWrapper | None = None
    ) -> str:
        """Find what affects the whole server, and names of the original."""
        try:
            for dialect in _modes(sql, connection):
                for reading in readings(sql, dialect):
                    for part in parts_of(reading, dialect):
                        if why := _leaves(part, home):
                            return why
        except TooManyReadings:
            return "it has too many comments that only some servers execute"
        return ""

    def watch_drivers(
        self, look: Callable[[str], None], verify: Callable[[Any], None] | None = None
    ) -> None:
        """Watch MySQLdb and PyMySQL where they are loaded."""
        for name in ("MySQLdb", "pymysql"):
            driver: Any = sys.modules.get(name)
            if driver is not None and not hasattr(driver.connect, "is_watched"):
                driver.connect = _watched(driver.connect, look, verify)

    def observer(self) -> StatementObserver:
        return MySQLObserver()


class MySQLObserver(StatementObserver):
    """Observes rebuilt tables: InnoDB assigns them another number."""

    blind = (
        "this database commits each schema change by itself, which releases the lock "
        "before it can be observed."
    )

    def __init__(self) -> None:
        self._numbers: dict[str, int] | None = {}

    def remember(self, connection: BaseDatabaseWrapper) -> None:
        connection.ensure_connection()
        self._numbers = self._read(connection)

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> StatementEffects:
        """Compare the numbers after a change of a table."""
        if self._numbers is None or not re.match(
            r"\s*(alter|create|drop)\b", sql, re.IGNORECASE
        ):
            return StatementEffects()
        now = self._read(connection) or {}
        rebuilt = {
            name
            for name, number in self._numbers.items()
            if name in now and now[name] != number
        }
        self._numbers = {name: now.get(name, was) for name, was in self._numbers.items()}
        return StatementEffects(rewrites=tuple(sorted(rebuilt)))

    def _read(self, connection: BaseDatabaseWrapper) -> dict[str, int] | None:
        """Return the number of each table; None if the user may not see them (PROCESS)."""
        is_mariadb = bool(getattr(connection, "mysql_is_mariadb", False))
        view = "INNODB_SYS_TABLES" if is_mariadb else "INNODB_TABLES"
        try:
            with connection.connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT NAME, TABLE_ID FROM information_schema.{view} "  # noqa: S608
                    "WHERE NAME LIKE CONCAT(DATABASE(), '/%')"
                )
                return {
                    name.partition("/")[2]: number for name, number in cursor.fetchall()
                }
        except Exception as error:
            if "1227" in str(error) or "denied" in str(error):
                return None
            raise


def _dump_tool() -> str:
    return find_tool("mariadb-dump", "mysqldump", of="mariadb-client or mysql-client")


def _client_tool() -> str:
    return find_tool("mariadb", "mysql", of="mariadb-client or mysql-client")


def _client_arguments(
    settings: dict[str, Any], database: str
) -> tuple[list[str], dict[str, str]]:
    """Return the arguments with which a program connects to a database, and its
    environment, which contains the password. The first argument says which option files are
    read: those that the driver reads, and no others."""
    options = {**settings["OPTIONS"]}
    for key in ("database", "db"):
        options.pop(key, None)
    if socket := options.get("unix_socket"):
        options["host"] = socket
    resolved = {**settings, "NAME": database, "OPTIONS": options}
    command, environment = DatabaseClient.settings_to_cmd_args_env(resolved, [])
    arguments = command[1:]
    if not arguments[0].startswith("--defaults-file="):
        arguments.insert(0, "--no-defaults")
    return arguments, dict(environment or {})


def _refuse_references_to_original(connection: BaseDatabaseWrapper, name: str) -> None:
    """Refuse a copy whose triggers or views name the original: they would access it."""
    home = current_database(connection.connection)
    pattern = f"%`{home}`.%", f"%{home}.%"
    with connection.cursor() as cursor:
        for view, column, schema in (
            ("TRIGGERS", "ACTION_STATEMENT", "TRIGGER_SCHEMA"),
            ("VIEWS", "VIEW_DEFINITION", "TABLE_SCHEMA"),
        ):
            cursor.execute(
                f"SELECT COUNT(*) FROM information_schema.{view} "  # noqa: S608
                f"WHERE {schema} = %s AND ({column} LIKE %s OR {column} LIKE %s)",
                [name, *pattern],
            )
            if cursor.fetchone()[0]:
                raise CannotRehearse(
                    f"One of the {view.lower()} of {home!r} names that database itself: in "
                    "a copy it would access the original.",
                    hint="Remove the name of the database from its definition.",
                )


_OF_THE_SERVER = re.compile(
    r"^((?:create|alter|drop|rename)\s+(?:or\s+replace\s+)?(?:definer\s*=.*?\s)?(?:user|role|database|schema|"
    r"server|tablespace|event)|grant|revoke|set\s+(?:global|persist|password|"
    r"@@(?:global|persist)\b)|flush|use|purge|reset|shutdown|install|uninstall)\b",
    re.IGNORECASE,
)
_SETS_THE_SERVER = re.compile(
    r"^(set)\b.*(?:\b(?:global|persist|persist_only)\s+\w|@@(?:global|persist))",
    re.IGNORECASE,
)
_NAMES = frozenset({LexemeKind.WORD, LexemeKind.QUOTED})
_BEFORE_TABLES = frozenset(
    {"from", "join", "into", "update", "table", "on", "references", "exists", "to", "like"}
)


def _modes(sql: str, connection: BaseDatabaseWrapper | None) -> tuple[Dialect, ...]:
    """Return the modes in which a text may be read; the session is queried where they make
    a difference."""
    if "sql_mode" in sql.lower():
        return MYSQL_MODES  # it may change between two statements
    session = None if connection is None else connection.connection
    if session is None or not ("\\" in sql or '"' in sql):
        return (MYSQL,)
    return (dialect_of_session(session),)


def _leaves(part: SqlStatement, home: str) -> str:
    for pattern in (_OF_THE_SERVER, _SETS_THE_SERVER):
        if found := pattern.match(part.code):
            return f"{' '.join(found[1].split()).upper()} affects the whole server"
    return f"it names the database {home!r}" if home and _names(part, home) else ""


def _names(part: SqlStatement, home: str) -> bool:
    """Return whether a statement names a database: a name of two parts can also be that of
    a column, whose table is named somewhere without a dot, or that of an alias."""
    texts = [one.text.strip('`"').lower() for one in part.names]
    home = home.lower()

    def follows(position: int, text: str) -> bool:
        return position < len(texts) and texts[position] == text

    named = [
        position
        for position, lexeme in enumerate(part.names)
        if lexeme.kind in _NAMES and texts[position] == home
    ]
    alone = [
        position
        for position in named
        if not follows(position + 1, ".") and not (position and texts[position - 1] == ".")
    ]
    for position in named:
        if not follows(position + 1, ".") or (position and texts[position - 1] == "."):
            continue
        has_three_parts = follows(position + 3, ".")
        is_table = position > 0 and texts[position - 1] in _BEFORE_TABLES
        if has_three_parts or is_table or not alone:
            return True
    return False


COPIES = MySQLCopies()


IN_PLACE = InPlaceSupport(
    "MySQL and MariaDB commit each schema change by itself: there would be nothing to roll "
    "back"
)
