"""How is a copy of a PostgreSQL database made? pg_dump, poured into a new database."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.errors import CannotRehearse
from migration_route.vendors.copying import BOOKKEEPING, Alive, Observer
from migration_route.vendors.identity import opened, require_copy, require_removable
from migration_route.vendors.lexer import POSTGRESQL, Dialect, lexemes
from migration_route.vendors.postgresql.drivers import watch_drivers
from migration_route.vendors.postgresql.observing import PostgreSQLObserver
from migration_route.vendors.postgresql.privileges import create_closed, revoke_as_in
from migration_route.vendors.postgresql.sessions import dialect_of_session
from migration_route.vendors.postgresql.tools import head_of, way_of
from migration_route.vendors.statements import Part, code_of, parts_of
from migration_route.vendors.tools import find_tool, pour, read_from, version_of

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
        pour(
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

    def observer(self) -> Observer:
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
