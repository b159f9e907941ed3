"""Observes what PostgreSQL does while an operation runs, statement by statement."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.core.enums import Direction
from migration_route.core.values import Forecast
from migration_route.planning.plan import Step
from migration_route.planning.sql import with_collected_sql
from migration_route.vendors import vendor_of
from tests.forecasts.cases import APP, FILL, Case, base

# An index, a sequence and a TOAST table count as the table they belong to.
_TABLES = """
SELECT c.oid, coalesce(x.indrelid, d.refobjid, t.oid, c.oid)::regclass::text
FROM pg_class c
LEFT JOIN pg_index x ON x.indexrelid = c.oid
LEFT JOIN pg_depend d ON d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i')
    AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
LEFT JOIN pg_class t ON t.reltoastrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i', 'S', 'p')
"""
_LOCKS = """
SELECT relation::bigint, mode FROM pg_locks
WHERE locktype = 'relation' AND granted AND pid = %s
"""
_FILES = "SELECT oid, relfilenode FROM pg_class WHERE relkind = 'r'"
_SCANS = "SELECT relid, seq_scan, seq_tup_read FROM pg_stat_xact_user_tables"
_SCANS_SO_FAR = "SELECT relid, seq_scan FROM pg_stat_user_tables"


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one statement did to the existing tables, as observed; None: not observed."""

    sql: str
    modes: dict[str, set[str]] = field(default_factory=dict)
    rewrites: set[str] = field(default_factory=set)
    scans: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One statement with its forecast and its observation."""

    forecast: Forecast
    seen: Seen


class Watch:
    """Reads the state before and after each statement, in the same transaction."""

    def __init__(self, connection: BaseDatabaseWrapper, *, is_filled: bool) -> None:
        self.connection = connection
        self.is_filled = is_filled
        self.tables = dict(self.ask(_TABLES))
        self.seen: list[Seen] = []

    def ask(self, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return list(cursor.fetchall())

    def look(self) -> tuple[set[Any], dict[Any, Any], dict[Any, Any]]:
        """Return the held locks, the files and the scan counts."""
        pid = self.connection.connection.info.backend_pid
        return (
            set(self.ask(_LOCKS, [pid])),
            dict(self.ask(_FILES)),
            # For a table with rows, count the rows read.
            {
                oid: rows if self.is_filled else scans
                for oid, scans, rows in self.ask(_SCANS)
            },
        )

    @contextmanager
    def on(self, sql: str) -> Iterator[None]:
        """Observe one statement."""
        locks, files, scans = self.look()
        yield
        more_locks, other_files, more_scans = self.look()
        seen = Seen(sql=sql)
        for oid, mode in more_locks - locks:
            if table := self.tables.get(oid):
                seen.modes.setdefault(table, set()).add(mode)
        for oid, file in other_files.items():
            # TRUNCATE gives a table a new, empty file without rewriting a row.
            if (
                self.tables.get(oid)
                and files.get(oid, file) != file
                and self._has_rows(oid)
            ):
                seen.rewrites.add(self.tables[oid])
        for oid, count in more_scans.items():
            if self.tables.get(oid) and count > scans.get(oid, 0):
                seen.scans.add(self.tables[oid])
        self.seen.append(seen)

    def _has_rows(self, oid: int) -> bool:
        return (
            not self.is_filled or self.ask("SELECT pg_relation_size(%s)", [oid])[0][0] > 0
        )


def prepared(connection: BaseDatabaseWrapper, case: Case, *, filled: bool) -> ProjectState:
    """Recreate the tables, with rows or without, and return the state."""
    with connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = warning")
        cursor.execute("DROP SCHEMA IF EXISTS apart CASCADE")
        cursor.execute("DROP SCHEMA public CASCADE")
        cursor.execute("CREATE SCHEMA public")
    state = ProjectState()
    _apply(connection, base(), state)
    if filled:
        with connection.cursor() as cursor:
            for statement in FILL:
                cursor.execute(statement)
            cursor.execute("ANALYZE")
    _apply(connection, case.before(), state)
    if case.backwards:
        _apply(connection, [case.operation()], state.clone())
    return state


def _apply(
    connection: BaseDatabaseWrapper, operations: list[Operation], state: ProjectState
) -> None:
    with connection.schema_editor() as editor:
        for operation in operations:
            before = state.clone()
            operation.state_forwards(APP, state)
            operation.database_forwards(APP, editor, before, state)


def outcomes(alias: str, case: Case, *, filled: bool) -> list[Outcome]:
    """Forecast an operation as a plan does, execute it as a migration does, and return both
    for each of its statements."""
    connection = connections[alias]
    before = prepared(connection, case, filled=filled)
    after = before.clone()
    operation = case.operation()
    operation.state_forwards(APP, after)
    start, end = (after, before) if case.backwards else (before, after)
    move = (operation, APP, start, end, case.backwards)
    migration = Migration("0002_case", APP)
    step = Step(
        app=APP, name=migration.name, direction=Direction.FORWARDS, digest="",
        atomic=not case.concurrently, reversible=True, rolls_back=True,
    )  # fmt: skip
    told = with_collected_sql(step, [move], alias)
    statements = [sql for each in told.operations for sql in each.sql or ()]
    forecaster = vendor_of(alias).forecaster(connection)
    forecasts = [forecaster.forecast_statement(sql) for sql in statements]
    if case.concurrently:
        seen = _seen_from_outside(connection, move)
    else:
        seen = _seen_from_inside(connection, move, filled=filled)
    return _paired(statements, forecasts, seen)


def _paired(
    statements: list[str], forecasts: list[Forecast], seen: list[Seen]
) -> list[Outcome]:
    """Match each planned statement with the executed one; a planned statement that was not
    needed did nothing."""
    left = {_bare(each.sql): each for each in seen}
    pairs = [
        Outcome(forecast=forecast, seen=left.pop(_bare(sql), Seen(sql=sql)))
        for sql, forecast in zip(statements, forecasts, strict=True)
    ]
    assert not left, (list(left), statements)
    return pairs


def _filled_in(editor: Any, sql: Any, params: Any) -> str:
    """Return a statement as a plan shows it (`BaseDatabaseSchemaEditor.execute`)."""
    if params is None:
        return str(sql)
    return str(sql) % tuple(map(editor.quote_value, params))


def _bare(sql: str) -> str:
    return " ".join(sql.split()).rstrip(";")


def _run(editor: Any, move: Any) -> None:
    operation, app, start, end, backwards = move
    run = operation.database_backwards if backwards else operation.database_forwards
    run(app, editor, start, end)


def _seen_from_inside(
    connection: BaseDatabaseWrapper, move: Any, *, filled: bool
) -> list[Seen]:
    watch = Watch(connection, is_filled=filled)
    with transaction.atomic(using=connection.alias):
        with connection.schema_editor(atomic=False) as editor:
            execute = editor.execute

            def watched(sql: Any, params: Any = ()) -> None:
                with watch.on(_filled_in(editor, sql, params)):
                    execute(sql, params)

            vars(editor)["execute"] = watched
            _run(editor, move)
        transaction.set_rollback(True, using=connection.alias)
    return watch.seen


def _seen_from_outside(connection: BaseDatabaseWrapper, move: Any) -> list[Seen]:
    """Block a concurrent statement by a writer: while it waits, this session reads the
    locks that it already holds."""
    with connection.cursor() as cursor:
        # Statistics of creating the tables must not arrive later: a session may report them
        # seconds afterwards (manual, The Cumulative Statistics System).
        cursor.execute("SELECT pg_stat_force_next_flush()")
    watch = Watch(connection, is_filled=True)
    writer, worker = connection.copy(), connection.copy()
    worker.alias = connection.alias
    texts: list[str] = []
    failures: list[BaseException] = []
    with writer.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE shop_item IN ROW EXCLUSIVE MODE")
    scans = dict(watch.ask(_SCANS_SO_FAR))
    worker.ensure_connection()
    pid = worker.connection.info.backend_pid

    def work() -> None:
        try:
            worker.inc_thread_sharing()
            with worker.schema_editor(atomic=False) as editor:
                execute = editor.execute

                def noted(sql: Any, params: Any = ()) -> None:
                    texts.append(str(sql))
                    execute(sql, params)

                vars(editor)["execute"] = noted
                _run(editor, move)
            with worker.cursor() as cursor:
                cursor.execute("SELECT pg_stat_force_next_flush()")
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    worker.inc_thread_sharing()
    thread = threading.Thread(target=work)
    thread.start()
    waits = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    deadline = time.monotonic() + 20
    while not watch.ask(waits, [pid])[0][0]:
        assert time.monotonic() < deadline, failures
        thread.join(0.01)
    seen = Seen(sql="")
    for oid, mode in watch.ask(_LOCKS, [pid]):
        if table := watch.tables.get(oid):
            seen.modes.setdefault(table, set()).add(mode)
    with writer.cursor() as cursor:
        cursor.execute("COMMIT")
    thread.join(20)
    assert not thread.is_alive()
    assert not failures, failures
    worker.close()
    writer.close()
    for oid, count in watch.ask(_SCANS_SO_FAR):
        if watch.tables.get(oid) and count > scans.get(oid, 0):
            seen.scans.add(watch.tables[oid])
    seen.sql = texts[0]
    assert len(texts) == 1
    return [seen]
