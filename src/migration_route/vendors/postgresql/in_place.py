"""How does PostgreSQL carry out a plan in one transaction that nobody can commit?

Two bars of the server's own, whatever the client sends. A temporary table that is to be
emptied at the commit while another one refers to it, which is not: the commit fails for
that (`heap_truncate_check_FKs`), and nothing but a commit asks. And a session whose
transactions are read-only but for this one: what somebody rolls back, and begins anew, can
write nothing.

The statements that PostgreSQL finds in a text.

Which statements would leave the one transaction of a rehearsal in place, outlive it, or
lift its bounds?
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.vendors.base_in_place import InPlaceFailure
from migration_route.vendors.postgresql.locks import dialect_of_session
from migration_route.vendors.sql_lexer import POSTGRESQL, Dialect, Kind, lexemes

_CODE = frozenset({Kind.WORD, Kind.NUMBER, Kind.SIGN})
_ROUTINE = re.compile(r"^create (?:or replace )?(?:function|procedure)\b.*\bbegin atomic\b")
_OPENS = re.compile(r"\b(?:begin atomic|case)\b")
_CLOSES = re.compile(r"\bend\b")


def statements_of(sql: str, dialect: Dialect = POSTGRESQL) -> list[str]:
    """Return the statements of a text in lower case, on one line each, without comments;
    literals, quoted names and bodies between dollars are left out."""
    found: list[str] = []
    for part in _parts(sql, dialect):
        # The body of a routine in SQL holds semicolons of its own (CREATE FUNCTION).
        if found and _ROUTINE.match(found[-1]) and _is_open(found[-1]):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def _is_open(code: str) -> bool:
    return len(_OPENS.findall(code)) > len(_CLOSES.findall(code))


def _parts(sql: str, dialect: Dialect) -> Iterator[str]:
    words: list[str] = []
    for kind, text in lexemes(sql, dialect):
        if kind is Kind.SIGN and text == ";":
            yield from _joined(words)
            words = []
        else:
            words.append(text.lower() if kind in _CODE else " ")
    yield from _joined(words)


def _joined(words: list[str]) -> Iterator[str]:
    code = " ".join("".join(words).split())
    if code:
        yield code


# Nothing is read closely in which none of these words stands.
_SUSPECT = re.compile(
    r"commit|end|abort|rollback|prepare|discard|reset|setval|timeout|transaction|"
    r"read\s+write|characteristics",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"^(?:commit|end|abort|prepare transaction|"
    r"rollback(?!(?: work| transaction)? to\b))\b"
)
_MODES = re.compile(
    r"\bread write\b|^set session characteristics\b|^discard\b|^reset all\b"
)
_READ_ONLY = re.compile(r"\b(?:default_)?transaction_read_only\b", re.IGNORECASE)
_SETVAL = re.compile(r"\bsetval\s*\(", re.IGNORECASE)
_OWN_BOUND = re.compile(
    r"^(?:set|reset)\b.*\b(?:lock_timeout|\w*statement_timeout|\w*session_timeout)\b"
)


def leaving(sql: str, dialect: Dialect = POSTGRESQL) -> str:
    """Tell what a text does that must not be sent; "" where nothing."""
    if not _SUSPECT.search(sql):
        return ""
    if _READ_ONLY.search(sql):  # as a literal of set_config as well
        return "it changes whether the session may write"
    if _SETVAL.search(sql):
        return "setval changes a sequence for good: no rollback takes that back"
    statements = statements_of(sql, dialect)
    for statement in statements:
        if _ENDS.match(statement):
            words = " ".join(statement.split()[:2]).upper()
            return f"{words} would end the transaction of the rehearsal"
        if _MODES.search(statement):
            return "it changes the modes or the settings of the session"
    if len(statements) > 1 and any(map(_OWN_BOUND.match, statements)):
        return (
            "it sets a time limit together with other statements, which would have that "
            "instead of the limit of the rehearsal"
        )
    return ""


_BAR = "migration_route_never_committed"
_BARS = (
    "SET TRANSACTION READ WRITE",  # before any query (manual, SET TRANSACTION)
    f"CREATE TEMPORARY TABLE {_BAR} (id int PRIMARY KEY) ON COMMIT DELETE ROWS",
    f"CREATE TEMPORARY TABLE {_BAR}_either (id int REFERENCES pg_temp.{_BAR}) "
    "ON COMMIT PRESERVE ROWS",
)
_BOUND = """
SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),
set_config('idle_in_transaction_session_timeout', %s, true)
"""
# After ALL DEFERRED, those that begin as immediate ones have to be told so again.
_IMMEDIATE = """
SELECT DISTINCT format('%I.%I', n.nspname, c.conname)
FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
WHERE c.condeferrable AND NOT c.condeferred
"""
_TROUBLES = {
    "57014": InPlaceFailure.OUT_OF_TIME,
    "55P03": InPlaceFailure.LOCK_TAKEN,
    "25P01": InPlaceFailure.NO_TRANSACTION,
    "3B001": InPlaceFailure.NO_TRANSACTION,
}


class PostgreSQLInPlace:
    """Transactional DDL, and sessions that do not wait for a writer as such."""

    why_not = ""

    def require(self, connection: BaseDatabaseWrapper) -> None:
        """Look for the right to make temporary tables, and for a server that writes."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT has_database_privilege(current_database(), 'TEMPORARY'), "
                "pg_is_in_recovery(), current_user, current_database()"
            )
            may, is_standby, user, database = cursor.fetchone()
        if is_standby:
            raise CannotRehearse("This server is a standby: nothing is written there.")
        if not may:
            raise CannotRehearse(
                f"The user {user!r} may not make temporary tables, which keep a rehearsal "
                "in place from being committed.",
                hint=f'GRANT TEMPORARY ON DATABASE "{database}" TO "{user}".',
            )

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Let every transaction to come be a read-only one."""
        _send(connection, "SET default_transaction_read_only = on")

    def bar(self, connection: BaseDatabaseWrapper) -> None:
        """Write in this one, and keep it from being committed."""
        for statement in _BARS:
            _send(connection, statement)

    def is_barred(self, connection: BaseDatabaseWrapper) -> bool:
        """Look for the table, which goes with its transaction."""
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(f"SELECT to_regclass('pg_temp.{_BAR}_either') IS NOT NULL")
            (found,) = cursor.fetchone()
        return bool(found)

    def bound(
        self, connection: BaseDatabaseWrapper, *, lock_seconds: float, seconds: float
    ) -> None:
        """Set the limits of this transaction; a session that idles for so long is ended."""
        whole, lock = _milliseconds(seconds), _milliseconds(min(lock_seconds, seconds))
        _send(connection, _BOUND, [lock, whole, whole])

    def settle(self, connection: BaseDatabaseWrapper) -> None:
        """Check what is deferred, as the commit of a step does, and defer it again."""
        _send(connection, "SET CONSTRAINTS ALL IMMEDIATE")
        _send(connection, "SET CONSTRAINTS ALL DEFERRED")
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(_IMMEDIATE)
            names = [name for (name,) in cursor.fetchall()]
        if names:
            _send(connection, f"SET CONSTRAINTS {', '.join(names)} IMMEDIATE")

    def trouble(self, error: BaseException) -> InPlaceFailure:
        """Read its code (manual, appendix A)."""
        cause = error.__cause__ or error
        code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return _TROUBLES.get(code or "", InPlaceFailure.OTHER)

    def text_of(self, connection: BaseDatabaseWrapper, query: Any) -> str:
        """Read bytes, and what psycopg composes of parts."""
        if isinstance(query, bytes):
            return query.decode(errors="replace")
        if hasattr(query, "as_string"):
            return str(query.as_string(connection.connection))
        return str(query)

    def leaves(self, connection: BaseDatabaseWrapper, sql: str) -> str:
        """Read the statements of the text."""
        return leaving(sql, dialect_of_session(connection))

    def watch_driver(self, look: Callable[[Any], None]) -> None:
        """Watch the cursors and connections of psycopg. Those of psycopg2 are written in C:
        what is sent there past Django meets the bars of the server."""
        psycopg: Any = sys.modules.get("psycopg")
        if psycopg is None:
            return
        for name in ("execute", "executemany", "stream", "copy"):
            setattr(psycopg.Cursor, name, _heard(getattr(psycopg.Cursor, name), look))
        for name in ("commit", "rollback"):
            usual = getattr(psycopg.Connection, name)
            setattr(psycopg.Connection, name, _heard_as(name.upper(), usual, look))


def _heard(usual: Callable[..., Any], look: Callable[[Any], None]) -> Callable[..., Any]:
    def send(self: Any, *arguments: Any, **words: Any) -> Any:
        look(arguments[0] if arguments else words.get("query", words.get("statement", "")))
        return usual(self, *arguments, **words)

    return send


def _heard_as(
    word: str, usual: Callable[..., Any], look: Callable[[Any], None]
) -> Callable[..., Any]:
    def end(self: Any) -> Any:
        look(word)
        return usual(self)

    return end


def _send(
    connection: BaseDatabaseWrapper, sql: str, parameters: list[str] | None = None
) -> None:
    with connection.wrap_database_errors, connection.connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def _milliseconds(seconds: float) -> str:
    return f"{max(round(seconds * 1000), 1)}ms"


IN_PLACE = PostgreSQLInPlace()
