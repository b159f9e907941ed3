"""Copies of PostgreSQL databases by pg_dump and psql, the interception of connections that
bypass Django, and the observation of locks and rewrites."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.vendors.base_copies import (
    TABLES_READ_BY_MIGRATE,
    CheckAlive,
    StatementEffects,
    StatementObserver,
    find_tool,
    pipe,
    read_from,
    verify_session,
    version_of,
)
from migration_route.vendors.base_identity import (
    connection_with_settings,
    require_copy,
    require_removable,
)
from migration_route.vendors.postgresql.client_tools import client_connection, load_preamble
from migration_route.vendors.postgresql.locks import dialect_of_session
from migration_route.vendors.postgresql.privileges import create_closed, revoke_as_in
from migration_route.vendors.sql_lexer import POSTGRESQL, Dialect, lexemes
from migration_route.vendors.sql_statements import SqlStatement, code_of, parts_of


def watch_drivers(
    look: Callable[[str], None], verify: Callable[[Any], None] | None = None
) -> None:
    """Make psycopg and psycopg2 call `look` with the name of the database before they
    connect, in this process from now on. An exception of `look` prevents the connection.
    `verify` receives each new session, which is closed if it raises."""
    psycopg: Any = sys.modules.get("psycopg")
    if psycopg is not None:
        connect_original = psycopg.Connection.connect.__func__

        def connect(cls: Any, /, conninfo: str = "", **options: Any) -> Any:
            named = psycopg.conninfo.conninfo_to_dict(conninfo)
            look(_name({**named, **options}))
            return verify_session(connect_original(cls, conninfo, **options), verify)

        psycopg.Connection.connect = classmethod(connect)
        psycopg.connect = psycopg.Connection.connect
    psycopg2: Any = sys.modules.get("psycopg2")
    if psycopg2 is not None:
        connect_original_2 = psycopg2.connect

        def connect_2(dsn: str | None = None, *rest: Any, **options: Any) -> Any:
            named = psycopg2.extensions.parse_dsn(dsn) if dsn else {}
            look(_name({**named, **options}))
            return verify_session(connect_original_2(dsn, *rest, **options), verify)

        psycopg2.connect = connect_2


def _name(options: dict[str, Any]) -> str:
    name = options.get("dbname") or options.get("database") or options.get("user")
    return str(name or "")


_TABLES = """
SELECT c.oid, CASE WHEN n.nspname = ANY (current_schemas(false)) THEN c.relname
ELSE n.nspname || '.' || c.relname END, c.relfilenode
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f')
AND n.nspname NOT IN ('pg_catalog', 'information_schema')
AND n.nspname NOT LIKE 'pg_toast%' AND n.nspname NOT LIKE 'pg_temp%'
"""
# pg_locks contains the locks of a session (manual, 54.12). The session sees its own changes
# of pg_class, where a rewritten table has another file.
_LOCKS_HELD = """
SELECT l.relation, l.mode, c.relfilenode
FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
"""
_BLOCKS = {
    "AccessShareLock": (),
    "RowShareLock": ("schema_changes",),
    "RowExclusiveLock": ("schema_changes",),
    "ShareUpdateExclusiveLock": ("schema_changes",),
    "ShareLock": ("schema_changes", "writes"),
    "ShareRowExclusiveLock": ("schema_changes", "writes"),
    "ExclusiveLock": ("schema_changes", "writes"),
    "AccessExclusiveLock": ("reads", "schema_changes", "writes"),
}


class PostgreSQLObserver:
    """Reads pg_locks through the session itself, inside its transaction."""

    blind = ""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._files: dict[int, int] = {}
        self._held: set[tuple[int, str]] = set()
        self._transaction: Any = None

    def remember(self, connection: BaseDatabaseWrapper) -> None:
        """Record the existing tables and their files."""
        with connection.cursor() as cursor:
            cursor.execute(_TABLES)
            for oid, name, file in cursor.fetchall():
                self._names[oid] = name
                self._files[oid] = file

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> StatementEffects:
        """Return the locks that the statement added."""
        del sql
        if not connection.in_atomic_block or connection.needs_rollback:
            return StatementEffects()  # the locks ended with the statement
        if connection.atomic_blocks[0] is not self._transaction:
            self._transaction = connection.atomic_blocks[0]
            self._held = set()
        with connection.connection.cursor() as cursor:
            cursor.execute(_LOCKS_HELD)
            rows = cursor.fetchall()
        held = {(oid, mode) for oid, mode, _ in rows if oid in self._names}
        new = held - self._held
        self._held = held
        rewrites = []
        for oid, file in {(oid, file) for oid, _, file in rows if oid in self._files}:
            if file is not None and file != self._files[oid]:
                self._files[oid] = file
                rewrites.append(self._names[oid])
        locks = sorted((self._names[oid], mode) for oid, mode in new)
        return StatementEffects(locks=tuple(locks), rewrites=tuple(sorted(rewrites)))

    def blocks(self, mode: str) -> tuple[str, ...]:
        """Return what this mode blocks (manual, 13.3.1, table 13.2)."""
        return _BLOCKS.get(mode, ())


# A copy has one owner and no subscriptions: it must not connect to other servers.
_DUMP = (
    "--format=plain",
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-tablespaces",
    "--lock-wait-timeout=5000",
    "--no-password",
)
_LOAD = ("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-")
_SPACE_FACTOR = 1.2  # a copy has no free space in its tables, but writes WAL
_CLUSTER_OBJECTS = (
    r"(?:create|alter|drop)\s+(?:role|user(?!\s+mapping)|group|database|tablespace|system|"
    r"subscription|server|foreign\s+data\s+wrapper)|reassign\s+owned"
)
_OF_THE_CLUSTER = re.compile(
    rf"(?:^|\b(?:begin|then|else|loop)\b)\s*({_CLUSTER_OBJECTS}|"
    r"(?:grant|revoke)\s+(?!.*\bon\b)[\w\", ]+?\s+(?:to|from))\b",
    re.IGNORECASE,
)
# The literals of a block or a routine contain what it executes.
_HAS_BODY = re.compile(
    r"^(?:do|create\s+(?:or\s+replace\s+)?(?:function|procedure))\b", re.IGNORECASE
)
_IN_A_BLOCK = re.compile(rf"\b({_CLUSTER_OBJECTS})\b", re.IGNORECASE)
_RANDOM = re.compile(r"^\\(?:un)?restrict ")


class PostgreSQLCopies:
    """Makes copies with pg_dump and psql."""

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Check for the programs, the privilege to create databases, and space."""
        dump = find_tool("pg_dump", of="postgresql-client")
        find_tool("psql", of="postgresql-client")
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version_num")
            server = int(cursor.fetchone()[0]) // 10000
            cursor.execute(
                "SELECT rolcreatedb OR rolsuper, current_user, "
                "pg_database_size(current_database()) "
                "FROM pg_roles WHERE rolname = current_user"
            )
            may_create, user, size = cursor.fetchone()
        if not may_create:
            raise CannotRehearse(
                f"The user {user!r} may not create databases.",
                hint=f'Run ALTER ROLE "{user}" CREATEDB, or set a database to rehearse on '
                'in MIGRATION_ROUTE["DATABASES"][…]["rehearsal_alias"].',
            )
        client = re.search(r"(\d+)", version_of(dump))
        if client and int(client[1]) < server:
            raise CannotRehearse(
                f"pg_dump {client[1]} cannot dump a server of version {server}.",
                hint=f"Install postgresql-client-{server} on this host.",
            )
        if with_data:
            _require_room(connection, size)

    def settings(self, settings: dict[str, Any], name: str) -> dict[str, Any]:
        """Name another database of the same server, wherever the original's name is set."""
        options = {**settings.get("OPTIONS", {})}
        for key in ("pool", "dbname"):  # NAME overrides a service file
            options.pop(key, None)
        return {**settings, "NAME": name, "OPTIONS": options}

    def make(
        self,
        connection: BaseDatabaseWrapper,
        name: str,
        *,
        with_data: bool,
        alive: CheckAlive,
    ) -> None:
        """Create an empty database of the same kind, and restore a dump into it."""
        create_closed(connection, name, _creation(connection, name))
        with connection_with_settings(
            connection, self.settings(connection.settings_dict, name)
        ) as copy:
            require_copy(connection, copy, name=name)
            with connection.cursor() as cursor:
                tables = set(connection.introspection.table_names(cursor))
            whole = ["pg_dump", *_DUMP, *([] if with_data else ["--schema-only"])]
            self._restore(connection, name, whole, alive)
            rows = [
                f"--table=*.{table}" for table in TABLES_READ_BY_MIGRATE if table in tables
            ]
            if rows and not with_data:
                rows = ["pg_dump", *_DUMP, "--data-only", *rows]
                self._restore(connection, name, rows, alive)
            revoke_as_in(connection, copy)
            _cut_off(copy)

    def _restore(
        self, connection: BaseDatabaseWrapper, name: str, dump: list[str], alive: CheckAlive
    ) -> None:
        source, into = (
            client_connection(connection),
            client_connection(connection, database=name),
        )
        pipe(
            [*dump, *source.dump_arguments],
            ["psql", *_LOAD, *into.arguments],
            source.environment,
            alive=alive,
            head=load_preamble(into, name),
        )

    def remove(self, connection: BaseDatabaseWrapper, name: str) -> None:
        """Terminate its sessions and drop it."""
        require_removable(connection, name)
        with connection.cursor() as cursor:
            # Processes of the server, such as autovacuum, remain. An owner may not signal
            # those, and FORCE would fail; DROP DATABASE ends them itself.
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND backend_type = 'client backend'",
                [name],
            )
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')

    def schema(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the schema as pg_dump writes it."""
        way = client_connection(connection)
        dump = ["pg_dump", *_DUMP, "--schema-only", *way.dump_arguments]
        text = read_from(dump, way.environment)
        return [
            line
            for line in text.splitlines()
            if line and not line.startswith("--") and not _RANDOM.match(line)
        ]

    def leaves(
        self, sql: str, home: str, connection: BaseDatabaseWrapper | None = None
    ) -> str:
        """Find what affects the whole cluster: roles, databases, tablespaces."""
        del home  # a statement cannot name another database
        dialect = POSTGRESQL if connection is None else dialect_of_session(connection)
        for part in parts_of(lexemes(sql, dialect), dialect):
            found = _OF_THE_CLUSTER.search(part.code)
            if not found and _HAS_BODY.match(part.code):
                bodies = (part.code, *part.literals, *_bodies(part, dialect))
                found = next(filter(None, map(_IN_A_BLOCK.search, bodies)), None)
            if found:
                return f"{' '.join(found[1].split()).upper()} affects the whole server"
        return ""

    def watch_drivers(
        self, look: Callable[[str], None], verify: Callable[[Any], None] | None = None
    ) -> None:
        """Watch the drivers that are loaded."""
        watch_drivers(look, verify)

    def observer(self) -> StatementObserver:
        return PostgreSQLObserver()


def _bodies(part: SqlStatement, dialect: Dialect) -> Iterator[str]:
    """Yield the contents of a statement's literals, without comments."""
    for literal in part.literals:
        mark = re.match(r"\$\w*\$|[eE]?'", literal)
        if mark:
            inner = literal[mark.end() :].removesuffix(mark[0][-1:])
            yield " ".join(code_of(inner, dialect))


def _creation(connection: BaseDatabaseWrapper, name: str) -> str:
    """Return the statement that creates an empty database with the same encoding and
    locale."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d) ->> "
            "'datlocprovider', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> "
            "'daticulocale') FROM pg_database d WHERE datname = current_database()"
        )
        encoding, collate, ctype, provider, locale = cursor.fetchone()
        quote = _literal
        sql = f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING {quote(encoding)}'
        sql += f" LC_COLLATE {quote(collate)} LC_CTYPE {quote(ctype)}"
        if provider == "i" and locale:
            sql += f" LOCALE_PROVIDER icu ICU_LOCALE {quote(locale)}"
    return sql


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _cut_off(copy: BaseDatabaseWrapper) -> None:
    """Drop all user mappings, so that foreign tables of the copy cannot connect."""
    with copy.cursor() as cursor:
        cursor.execute("SELECT srvname, usename FROM pg_user_mappings")
        for server, user in cursor.fetchall():
            who = "PUBLIC" if user == "public" else copy.ops.quote_name(user)
            name = copy.ops.quote_name(server)
            cursor.execute(f"DROP USER MAPPING FOR {who} SERVER {name}")


def _require_room(connection: BaseDatabaseWrapper, size: int) -> None:
    """Refuse a copy that does not fit, where the server's disk is on this host."""
    host = str(connection.settings_dict["HOST"])
    if host and not host.startswith("/") and host not in {"localhost", "127.0.0.1", "::1"}:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setting FROM pg_settings WHERE name = 'data_directory'"
        )  # no row if this role may not read it
        row = cursor.fetchone()
    try:
        free = shutil.disk_usage(Path(row[0])).free if row else None
    except OSError:
        return
    if free is not None and size * _SPACE_FACTOR > free:
        raise CannotRehearse(
            f"A copy needs about {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free.",
            hint='Rehearse the schema only, or set "rehearsal_alias" to another database.',
        )


COPIES = PostgreSQLCopies()
