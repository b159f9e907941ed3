"""How is a copy of a PostgreSQL database made? pg_dump, poured into a new database.

Where does a connection lead that is opened past Django?

Which locks does a statement really hold, and which tables has it written anew?
"""

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
    BOOKKEEPING,
    Alive,
    StatementEffects,
    StatementObserver,
    find_tool,
    pipe,
    read_from,
    verified,
    version_of,
)
from migration_route.vendors.base_identity import opened, require_copy, require_removable
from migration_route.vendors.postgresql.client_tools import head_of, way_of
from migration_route.vendors.postgresql.locks import dialect_of_session
from migration_route.vendors.postgresql.privileges import create_closed, revoke_as_in
from migration_route.vendors.sql_lexer import POSTGRESQL, Dialect, lexemes
from migration_route.vendors.sql_statements import Part, code_of, parts_of


def watch_drivers(
    look: Callable[[str], None], verify: Callable[[Any], None] | None = None
) -> None:
    """Let `look` hear the name of the database before psycopg or psycopg2 connects, in
    this process from now on; what it raises keeps that from happening. `verify` gets each
    new session, which is closed when it raises."""
    psycopg: Any = sys.modules.get("psycopg")
    if psycopg is not None:
        usual = psycopg.Connection.connect.__func__

        def connect(cls: Any, /, conninfo: str = "", **words: Any) -> Any:
            named = psycopg.conninfo.conninfo_to_dict(conninfo)
            look(_name({**named, **words}))
            return verified(usual(cls, conninfo, **words), verify)

        psycopg.Connection.connect = classmethod(connect)
        psycopg.connect = psycopg.Connection.connect
    psycopg2: Any = sys.modules.get("psycopg2")
    if psycopg2 is not None:
        usual_2 = psycopg2.connect

        def connect_2(dsn: str | None = None, *rest: Any, **words: Any) -> Any:
            named = psycopg2.extensions.parse_dsn(dsn) if dsn else {}
            look(_name({**named, **words}))
            return verified(usual_2(dsn, *rest, **words), verify)

        psycopg2.connect = connect_2


def _name(words: dict[str, Any]) -> str:
    return str(words.get("dbname") or words.get("database") or words.get("user") or "")


_TABLES = """
SELECT c.oid, CASE WHEN n.nspname = ANY (current_schemas(false)) THEN c.relname
ELSE n.nspname || '.' || c.relname END, c.relfilenode
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f')
AND n.nspname NOT IN ('pg_catalog', 'information_schema')
AND n.nspname NOT LIKE 'pg_toast%' AND n.nspname NOT LIKE 'pg_temp%'
"""
# What a session holds stands in pg_locks (manual, 54.12); it sees its own changes of
# pg_class, and the file of a table is another one when its rows were written anew.
_HELD = """
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
    """Reads pg_locks through the session itself, inside of its transaction."""

    blind = ""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._files: dict[int, int] = {}
        self._held: set[tuple[int, str]] = set()
        self._transaction: Any = None

    def remember(self, connection: BaseDatabaseWrapper) -> None:
        """Note the tables that there are, and their files."""
        with connection.cursor() as cursor:
            cursor.execute(_TABLES)
            for oid, name, file in cursor.fetchall():
                self._names[oid] = name
                self._files[oid] = file

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> StatementEffects:
        """Return the locks that came with the statement."""
        del sql
        if not connection.in_atomic_block or connection.needs_rollback:
            return StatementEffects()  # the locks went with the statement
        if connection.atomic_blocks[0] is not self._transaction:
            self._transaction = connection.atomic_blocks[0]
            self._held = set()
        with connection.connection.cursor() as cursor:
            cursor.execute(_HELD)
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
        """Return who waits for this mode (manual, 13.3.1, table 13.2)."""
        return _BLOCKS.get(mode, ())


# A copy has one owner and no subscriptions: it must not speak to anybody.
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
_MORE_ROOM = 1.2  # a copy has no free space in its tables, but new WAL beside it
_THINGS = (
    r"(?:create|alter|drop)\s+(?:role|user(?!\s+mapping)|group|database|tablespace|system|"
    r"subscription|server|foreign\s+data\s+wrapper)|reassign\s+owned"
)
_OF_THE_CLUSTER = re.compile(
    rf"(?:^|\b(?:begin|then|else|loop)\b)\s*({_THINGS}|"
    r"(?:grant|revoke)\s+(?!.*\bon\b)[\w\", ]+?\s+(?:to|from))\b",
    re.IGNORECASE,
)
# What a block or a routine executes stands in its literals.
_HAS_BODY = re.compile(
    r"^(?:do|create\s+(?:or\s+replace\s+)?(?:function|procedure))\b", re.IGNORECASE
)
_IN_A_BLOCK = re.compile(rf"\b({_THINGS})\b", re.IGNORECASE)
_RANDOM = re.compile(r"^\\(?:un)?restrict ")


class PostgreSQLCopies:
    """Copies that pg_dump and psql make."""

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Look for the programs, the right to create databases, and space."""
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
                hint=f'ALTER ROLE "{user}" CREATEDB; or name a database to rehearse on: '
                'MIGRATION_ROUTE["DATABASES"][…]["rehearse_on"].',
            )
        found = re.search(r"(\d+)", version_of(dump))
        if found and int(found[1]) < server:
            raise CannotRehearse(
                f"pg_dump {found[1]} cannot read a server of version {server}.",
                hint=f"Install postgresql-client-{server} on this host.",
            )
        if with_data:
            _require_room(connection, size)

    def settings(self, settings: dict[str, Any], name: str) -> dict[str, Any]:
        """Name another database of the same server, whatever names the original."""
        options = {**settings.get("OPTIONS", {})}
        for key in ("pool", "dbname"):  # a service file is overruled by NAME
            options.pop(key, None)
        return {**settings, "NAME": name, "OPTIONS": options}

    def make(
        self, connection: BaseDatabaseWrapper, name: str, *, with_data: bool, alive: Alive
    ) -> None:
        """Make an empty database of the same kind, and restore a dump into it."""
        create_closed(connection, name, _creation(connection, name))
        with opened(connection, self.settings(connection.settings_dict, name)) as copy:
            require_copy(connection, copy, name=name)
            with connection.cursor() as cursor:
                tables = set(connection.introspection.table_names(cursor))
            whole = ["pg_dump", *_DUMP, *([] if with_data else ["--schema-only"])]
            self._pour(connection, name, whole, alive)
            rows = [f"--table=*.{table}" for table in BOOKKEEPING if table in tables]
            if rows and not with_data:
                rows = ["pg_dump", *_DUMP, "--data-only", *rows]
                self._pour(connection, name, rows, alive)
            revoke_as_in(connection, copy)
            _cut_off(copy)

    def _pour(
        self, connection: BaseDatabaseWrapper, name: str, dump: list[str], alive: Alive
    ) -> None:
        source, into = way_of(connection), way_of(connection, database=name)
        pipe(
            [*dump, *source.dump_arguments],
            ["psql", *_LOAD, *into.arguments],
            source.environment,
            alive=alive,
            head=head_of(into, name),
        )

    def remove(self, connection: BaseDatabaseWrapper, name: str) -> None:
        """End its sessions and drop it."""
        require_removable(connection, name)
        with connection.cursor() as cursor:
            # What is left then are processes of the server, such as autovacuum. An owner
            # may not signal those, and FORCE would fail; DROP DATABASE ends them itself.
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND backend_type = 'client backend'",
                [name],
            )
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')

    def schema(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return what pg_dump says of the schema."""
        way = way_of(connection)
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
        """Find what belongs to the whole cluster: roles, databases, tablespaces."""
        del home  # another database cannot be named in a statement
        dialect = POSTGRESQL if connection is None else dialect_of_session(connection)
        for part in parts_of(lexemes(sql, dialect), dialect):
            found = _OF_THE_CLUSTER.search(part.code)
            if not found and _HAS_BODY.match(part.code):
                bodies = (part.code, *part.literals, *_bodies(part, dialect))
                found = next(filter(None, map(_IN_A_BLOCK.search, bodies)), None)
            if found:
                return f"{' '.join(found[1].split()).upper()} reaches the whole server"
        return ""

    def watch_drivers(
        self, look: Callable[[str], None], verify: Callable[[Any], None] | None = None
    ) -> None:
        """Watch the drivers that are loaded."""
        watch_drivers(look, verify)

    def observer(self) -> StatementObserver:
        """Return one that reads pg_locks."""
        return PostgreSQLObserver()


def _bodies(part: Part, dialect: Dialect) -> Iterator[str]:
    """Return what the literals of a statement hold, without comments."""
    for literal in part.literals:
        mark = re.match(r"\$\w*\$|[eE]?'", literal)
        if mark:
            inner = literal[mark.end() :].removesuffix(mark[0][-1:])
            yield " ".join(code_of(inner, dialect))


def _creation(connection: BaseDatabaseWrapper, name: str) -> str:
    """Return the statement that makes an empty database which sorts and stores as this."""
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
    """Let foreign tables of the copy reach nobody: without a mapping there is no way."""
    with copy.cursor() as cursor:
        cursor.execute("SELECT srvname, usename FROM pg_user_mappings")
        for server, user in cursor.fetchall():
            who = "PUBLIC" if user == "public" else copy.ops.quote_name(user)
            name = copy.ops.quote_name(server)
            cursor.execute(f"DROP USER MAPPING FOR {who} SERVER {name}")


def _require_room(connection: BaseDatabaseWrapper, size: int) -> None:
    """Refuse a copy that cannot fit, where the server's disk is one of this host."""
    host = str(connection.settings_dict["HOST"])
    if host and not host.startswith("/") and host not in {"localhost", "127.0.0.1", "::1"}:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setting FROM pg_settings WHERE name = 'data_directory'"
        )  # no row for whoever may not know
        row = cursor.fetchone()
    try:
        free = shutil.disk_usage(Path(row[0])).free if row else None
    except OSError:
        return
    if free is not None and size * _MORE_ROOM > free:
        raise CannotRehearse(
            f"A copy needs about {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            hint="Rehearse on the schema alone, or on a database that is named as "
            '"rehearse_on".',
        )


COPIES = PostgreSQLCopies()
