"""Copies of PostgreSQL databases by pg_dump and psql, closed to others and with no wider
privileges than the original, and the interception of connections that bypass Django."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_rehearsal import (
    TABLES_READ_BY_MIGRATE,
    CheckAlive,
    Copies,
    StatementObserver,
    connection_with_settings,
    find_tool,
    pipe,
    read_from,
    require_copy,
    require_removable,
    require_room,
    verify_session,
    version_of,
)
from migration_route.vendors.postgresql.locks import PostgreSQLObserver, dialect_of_session
from migration_route.vendors.sql_lexer import POSTGRESQL, Dialect, lexemes
from migration_route.vendors.sql_statements import SqlStatement, code_of, parts_of, quoted


def _name(options: dict[str, Any]) -> str:
    name = options.get("dbname") or options.get("database") or options.get("user")
    return str(name or "")


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


class PostgreSQLCopies(Copies):
    name_options = ("pool", "dbname")

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Check for the programs, the privilege to create databases, and space."""
        dump = find_tool("pg_dump", of="postgresql-client")
        find_tool("psql", of="postgresql-client")
        [(version,)] = fetch_rows(connection, "SHOW server_version_num")
        server = int(version) // 10000
        [(may_create, user, size)] = fetch_rows(
            connection,
            "SELECT rolcreatedb OR rolsuper, current_user, "
            "pg_database_size(current_database()) "
            "FROM pg_roles WHERE rolname = current_user",
        )
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
            rows = fetch_rows(  # none if this role may not read it
                connection, "SELECT setting FROM pg_settings WHERE name = 'data_directory'"
            )
            require_room(connection, size, rows[0][0] if rows else None)

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
        """Watch psycopg and psycopg2 where they are loaded."""
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
    [(encoding, collate, ctype, provider, locale)] = fetch_rows(
        connection,
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d) ->> "
        "'datlocprovider', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> "
        "'daticulocale') FROM pg_database d WHERE datname = current_database()",
    )
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


# Known to every libpq since PostgreSQL 13: that of the programs may be older than that of
# the driver.
_KEPT = frozenset(
    {
        "user", "hostaddr", "passfile", "connect_timeout", "options", "keepalives",
        "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        "channel_binding", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl",
        "ssl_min_protocol_version", "ssl_max_protocol_version", "requirepeer",
        "krbsrvname", "gsslib", "gssencmode",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConnection:
    """How pg_dump and psql connect to a database, and as whom: as an open connection does.

    libpq has resolved service files, the environment and OPTIONS for that connection, so
    its own answer is used instead of the settings.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str]  # contains the password
    role: str  # assumed after the login; "" if it is the login user

    @property
    def dump_arguments(self) -> tuple[str, ...]:
        return (*((f"--role={self.role}",) if self.role else ()), *self.arguments)


def client_connection(
    connection: BaseDatabaseWrapper, *, database: str = ""
) -> ClientConnection:
    """Return how to connect to the database of an open connection, or to another one of its
    server."""
    [(current, login, role)] = fetch_rows(
        connection, "SELECT current_database(), session_user, current_user"
    )
    info = connection.connection.info
    known = getattr(info, "dsn_parameters", None) or info.get_parameters()
    parameters = {key: str(value) for key, value in known.items() if key in _KEPT and value}
    if "," in parameters.get("hostaddr", ""):
        del parameters["hostaddr"]  # of several servers; `host` is the one that answered
    parameters |= {"host": info.host or "", "port": str(info.port or "")}
    parameters["dbname"] = database or current
    return ClientConnection(
        arguments=(f"--dbname={_conninfo(parameters)}",),
        environment={"PGPASSWORD": info.password} if info.password else {},
        role="" if role == login else role,
    )


def load_preamble(way: ClientConnection, database: str) -> bytes:
    """Return what psql executes first: it stops in any database but this one."""
    lines = [
        "DO $route$ BEGIN IF pg_catalog.current_database() <> "
        f"{_literal(database)} THEN RAISE EXCEPTION 'this is the database %, not the "
        "copy', pg_catalog.current_database(); END IF; END $route$;"
    ]
    if way.role:
        lines.append(f"SET ROLE {quoted(way.role)};")
    return "".join(f"{line}\n" for line in lines).encode()


def _conninfo(parameters: dict[str, Any]) -> str:
    """Return a connection string (libpq, 34.1.1.1)."""
    parts = []
    for key, value in sorted(parameters.items()):
        if value:
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            parts.append(f"{key}='{escaped}'")
    return " ".join(parts)


_MINE = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
# What PostgreSQL grants to PUBLIC by default (manual, 5.7), and what was revoked. A dump
# without privileges restores the defaults.
_REVOKED = (
    (
        "EXECUTE ON ROUTINE",
        "p.proowner",
        """
SELECT format('%I.%I(%s)', n.nspname, p.proname, (
  SELECT coalesce(
    string_agg(format('%I.%I', m.nspname, t.typname), ', ' ORDER BY a.place), '')
  FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, place)
  JOIN pg_type t ON t.oid = a.type JOIN pg_namespace m ON m.oid = t.typnamespace))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE {mine} AND {owned} AND {public} EXISTS (
  SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
  WHERE x.grantee = 0 AND x.privilege_type = 'EXECUTE')
""",
    ),
    (
        "USAGE ON TYPE",
        "t.typowner",
        """
SELECT format('%I.%I', n.nspname, t.typname)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE {mine} AND {owned} AND t.typelem = 0
AND (t.typrelid = 0 OR t.typrelid IN (SELECT oid FROM pg_class WHERE relkind = 'c'))
AND t.typtype <> 'm' AND {public} EXISTS (
  SELECT FROM aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) x
  WHERE x.grantee = 0 AND x.privilege_type = 'USAGE')
""",
    ),
    *(
        (
            f"{privilege} ON SCHEMA",
            "n.nspowner",
            f"""
SELECT format('%I', n.nspname) FROM pg_namespace n
WHERE {{mine}} AND {{owned}} AND {{public}} EXISTS (
  SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
  WHERE x.grantee = 0 AND x.privilege_type = '{privilege}')
""",  # noqa: S608 - words of this module
        )
        for privilege in ("USAGE", "CREATE")
    ),
)


def create_closed(connection: BaseDatabaseWrapper, name: str, creation: str) -> None:
    """Create a database to which, at any time, only its owner can connect.

    `creation` is the statement that creates it. The login user may connect too, where the
    owner is a role that this user has assumed.
    """
    quote = connection.ops.quote_name
    database = quote(name)
    with connection.cursor() as cursor:
        cursor.execute(f"{creation} ALLOW_CONNECTIONS false")
        cursor.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        cursor.execute("SELECT session_user, current_user")
        login, owner = cursor.fetchone()
        if login != owner:
            cursor.execute(f"GRANT CONNECT ON DATABASE {database} TO {quote(login)}")
        cursor.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")


def revoke_as_in(original: BaseDatabaseWrapper, copy: BaseDatabaseWrapper) -> None:
    """Revoke from PUBLIC in a copy what PUBLIC does not have in the original."""
    with original.cursor() as reading, copy.cursor() as writing:
        for privilege, owner, query in _REVOKED:
            # In the copy everything has one owner, except perhaps what an extension made.
            reading.execute(query.format(mine=_MINE, owned="true", public="NOT"))
            wanted = {name for (name,) in reading.fetchall()}
            owned = f"pg_has_role({owner}, 'USAGE')"
            writing.execute(query.format(mine=_MINE, owned=owned, public=""))
            granted = {name for (name,) in writing.fetchall()}
            for name in sorted(wanted & granted):
                writing.execute(f"REVOKE {privilege} {name} FROM PUBLIC")


COPIES = PostgreSQLCopies()
