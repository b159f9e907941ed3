"""Reads of the ledger and of the migration recorder that bypass ORM result caches.

Result caches for the ORM replace methods of Django's classes. A cached answer would show a
run in an old state, and a migration as not applied. Such caches step in at two points, and
both are bypassed without naming a cache:

- the queryset: caches ignore a read for writing, which is sent to the primary database;
- the SQL compiler: the compiler of these queries runs Django's own method.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, TypeVar

from django.db import models
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

Row = TypeVar("Row", bound=models.Model)

# Read while the models are imported, before the ready() of any app can replace it.
_djangos_execute_sql = inspect.unwrap(SQLCompiler.execute_sql)


class UncachedQuery(Query):
    """A query that is sent to the database on each evaluation."""

    def get_compiler(self, *args: Any, **kwargs: Any) -> SQLCompiler:
        """Return the compiler of the backend, without wrappers around its `execute_sql`."""
        compiler: SQLCompiler = super().get_compiler(*args, **kwargs)
        found = type(compiler).execute_sql
        if found is SQLCompiler.execute_sql:
            execute_sql = _djangos_execute_sql
        else:
            execute_sql = inspect.unwrap(found)  # the backend's own method
        compiler.execute_sql = partial(execute_sql, compiler)  # type: ignore[method-assign]
        return compiler


class UncachedQuerySet(models.QuerySet[Row]):
    """A queryset that reads from the primary database, never from a cache."""

    def __init__(
        self,
        model: type[Row] | None = None,
        query: Query | None = None,
        using: str | None = None,
        hints: dict[str, models.Model] | None = None,
    ) -> None:
        if query is None and model is not None:
            query = UncachedQuery(model)
        super().__init__(model=model, query=query, using=using, hints=hints)
        self._for_write = True


class UncachedManager(models.Manager[Row]):
    def get_queryset(self) -> models.QuerySet[Row]:
        return UncachedQuerySet(model=self.model, using=self._db)


def disable_recorder_cache() -> None:
    """Make Django's migration recorder in this process read its table from the database:
    `migrate`, too, must not rely on a cache for the applied migrations."""
    MigrationRecorder.migration_qs = property(_migration_qs)  # type: ignore[assignment]


def _migration_qs(recorder: MigrationRecorder) -> models.QuerySet[Any]:
    return UncachedQuerySet(model=recorder.Migration, using=recorder.connection.alias)
