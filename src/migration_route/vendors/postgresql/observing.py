"""Which locks does a statement really hold, and which tables has it written anew?"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.copying import Seen

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

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> Seen:
        """Return the locks that came with the statement."""
        del sql
        if not connection.in_atomic_block or connection.needs_rollback:
            return Seen()  # the locks went with the statement
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
        return Seen(locks=tuple(locks), rewrites=tuple(sorted(rewrites)))

    def blocks(self, mode: str) -> tuple[str, ...]:
        """Return who waits for this mode (manual, 13.3.1, table 13.2)."""
        return _BLOCKS.get(mode, ())
