"""Applies a plan in one PostgreSQL transaction that cannot be committed, and finds
statements that would end that transaction, outlive it, or lift its limits.

Two mechanisms of the server itself prevent a commit, whatever the client sends. A commit
would empty a temporary table while another one that keeps its rows references it: the
commit fails for that (`heap_truncate_check_FKs`), and nothing but a commit checks it. And
all other transactions of the session are read-only: one that is started after a rollback
cannot write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_rehearsal import InPlaceFailure, InPlaceSupport
from migration_route.vendors.postgresql.locks import dialect_of_session
from migration_route.vendors.sql_lexer import (
    POSTGRESQL,
    Dialect,
    LexemeKind,
    lexemes,
    split_statements,
)

_CODE = frozenset({LexemeKind.WORD, LexemeKind.NUMBER, LexemeKind.SIGN})
_ROUTINE = re.compile(r"^create (?:or replace )?(?:function|procedure)\b.*\bbegin atomic\b")
_OPENS = re.compile(r"\b(?:begin atomic|case)\b")
_CLOSES = re.compile(r"\bend\b")


def statements_of(sql: str, dialect: Dialect = POSTGRESQL) -> list[str]:
    """Return the statements of a text in lower case, each on one line, without comments,
    literals, quoted names and dollar-quoted bodies."""
    found: list[str] = []
    for part in _parts(sql, dialect):
        # The body of a routine in SQL contains semicolons (CREATE FUNCTION).
        if found and _ROUTINE.match(found[-1]) and _is_open(found[-1]):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def _is_open(code: str) -> bool:
    return len(_OPENS.findall(code)) > len(_CLOSES.findall(code))


def _parts(sql: str, dialect: Dialect) -> Iterator[str]:
    for lexed in split_statements(lexemes(sql, dialect)):
        words = (text.lower() if kind in _CODE else " " for kind, text in lexed)
        if code := " ".join("".join(words).split()):
            yield code


# A text without any of these words is not examined further.
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


def reason_to_reject(sql: str, dialect: Dialect = POSTGRESQL) -> str:
    if not _SUSPECT.search(sql):
        return ""
    if _READ_ONLY.search(sql):  # also as a literal of set_config
        return "it changes whether the session may write"
    if _SETVAL.search(sql):
        return "setval changes a sequence permanently: a rollback does not undo it"
    statements = statements_of(sql, dialect)
    for statement in statements:
        if _ENDS.match(statement):
            words = " ".join(statement.split()[:2]).upper()
            return f"{words} would end the transaction of the rehearsal"
        if _MODES.search(statement):
            return "it changes the modes or the settings of the session"
    if len(statements) > 1 and any(map(_OWN_BOUND.match, statements)):
        return (
            "it sets a time limit together with other statements, which would run under it "
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
# After ALL DEFERRED, constraints that are initially immediate must be set so again.
_IMMEDIATE = """
SELECT DISTINCT format('%I.%I', n.nspname, c.conname)
FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
WHERE c.condeferrable AND NOT c.condeferred
"""
_FAILURES = {
    "57014": InPlaceFailure.OUT_OF_TIME,
    "55P03": InPlaceFailure.LOCK_TAKEN,
    "25P01": InPlaceFailure.NO_TRANSACTION,
    "3B001": InPlaceFailure.NO_TRANSACTION,
}


class PostgreSQLInPlace(InPlaceSupport):
    """PostgreSQL has transactional DDL, and sessions do not wait for a writer as such."""

    def require(self, connection: BaseDatabaseWrapper) -> None:
        """Check for the privilege to create temporary tables, and for a writable server."""
        [(may, is_standby, user, database)] = fetch_rows(
            connection,
            "SELECT has_database_privilege(current_database(), 'TEMPORARY'), "
            "pg_is_in_recovery(), current_user, current_database()",
        )
        if is_standby:
            raise CannotRehearse("This server is a standby: it accepts no writes.")
        if not may:
            raise CannotRehearse(
                f"The user {user!r} may not create temporary tables, which prevent a "
                "rehearsal in place from being committed.",
                hint=f'Run GRANT TEMPORARY ON DATABASE "{database}" TO "{user}".',
            )

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        _send(connection, "SET default_transaction_read_only = on")

    def bar(self, connection: BaseDatabaseWrapper) -> None:
        for statement in _BARS:
            _send(connection, statement)

    def is_commit_prevented(self, connection: BaseDatabaseWrapper) -> bool:
        """Check for the table, which disappears with its transaction."""
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
        """Check deferred constraints, as a step's commit does, and defer them again."""
        _send(connection, "SET CONSTRAINTS ALL IMMEDIATE")
        _send(connection, "SET CONSTRAINTS ALL DEFERRED")
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(_IMMEDIATE)
            names = [name for (name,) in cursor.fetchall()]
        if names:
            _send(connection, f"SET CONSTRAINTS {', '.join(names)} IMMEDIATE")

    def trouble(self, error: BaseException) -> InPlaceFailure:
        """Return the failure by its SQLSTATE (manual, appendix A)."""
        cause = error.__cause__ or error
        code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return _FAILURES.get(code or "", InPlaceFailure.OTHER)

    def text_of(self, connection: BaseDatabaseWrapper, query: Any) -> str:
        """Convert bytes, and what psycopg composes of parts."""
        if isinstance(query, bytes):
            return query.decode(errors="replace")
        if hasattr(query, "as_string"):
            return str(query.as_string(connection.connection))
        return str(query)

    def leaves(self, connection: BaseDatabaseWrapper, sql: str) -> str:
        return reason_to_reject(sql, dialect_of_session(connection))

    def watch_driver(self, look: Callable[[Any], None]) -> None:
        """Watch the cursors and connections of psycopg. Those of psycopg2 are written in C:
        there, only the server's mechanisms stop what bypasses Django."""
        psycopg: Any = sys.modules.get("psycopg")
        if psycopg is None:
            return
        for name in ("execute", "executemany", "stream", "copy"):
            setattr(
                psycopg.Cursor, name, _watched_query(getattr(psycopg.Cursor, name), look)
            )
        for name in ("commit", "rollback"):
            original = getattr(psycopg.Connection, name)
            setattr(psycopg.Connection, name, _watched_end(name.upper(), original, look))


def _watched_query(
    original: Callable[..., Any], look: Callable[[Any], None]
) -> Callable[..., Any]:
    def send(self: Any, *arguments: Any, **words: Any) -> Any:
        look(arguments[0] if arguments else words.get("query", words.get("statement", "")))
        return original(self, *arguments, **words)

    return send


def _watched_end(
    word: str, original: Callable[..., Any], look: Callable[[Any], None]
) -> Callable[..., Any]:
    def end(self: Any) -> Any:
        look(word)
        return original(self)

    return end


def _send(
    connection: BaseDatabaseWrapper, sql: str, parameters: list[str] | None = None
) -> None:
    with connection.wrap_database_errors, connection.connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def _milliseconds(seconds: float) -> str:
    return f"{max(round(seconds * 1000), 1)}ms"


IN_PLACE = PostgreSQLInPlace()
