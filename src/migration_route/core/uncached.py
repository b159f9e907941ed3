"""Reads that no result cache answers: of the ledger, and of the migration recorder.

Result caches for the ORM replace methods of Django's classes. One that answers a read of
the route from its memory shows a run as it was, in this process, and a migration as not
applied. There are two places where they step in, and neither needs to be known by name:

- the queryset: a read for writing is left alone, as it is sent to the primary database;
- the SQL compiler: the compiler of these queries runs the method that Django gave it.
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

# Read while the models are imported, before any app can have replaced it in its ready().
_djangos_execute_sql = inspect.unwrap(SQLCompiler.execute_sql)


class UncachedQuery(Query):
    """A query that is sent to the database each time that it is evaluated."""

    def get_compiler(self, *args: Any, **kwargs: Any) -> SQLCompiler:
        """Return the compiler of the database's backend, without what is wrapped around
        its `execute_sql`."""
        compiler: SQLCompiler = super().get_compiler(*args, **kwargs)
        found = type(compiler).execute_sql
        if found is SQLCompiler.execute_sql:
            execute_sql = _djangos_execute_sql
        else:
            execute_sql = inspect.unwrap(found)  # the backend has one of its own
        compiler.execute_sql = partial(execute_sql, compiler)  # type: ignore[method-assign]
        return compiler


class UncachedQuerySet(models.QuerySet[Row]):
    """A queryset that reads from the database, and from the primary one."""

    def __init__(
        self,
        model: type[Row] | None = None,
        query: Query | None = None,
        using: str | None = None,
        hints: dict[str, models.Model] | None = None,
    ) -> None:
        """Start from an `UncachedQuery` where no query is given."""
        if query is None and model is not None:
            query = UncachedQuery(model)
        super().__init__(model=model, query=query, using=using, hints=hints)
        self._for_write = True


class UncachedManager(models.Manager[Row]):
    """Gives the querysets of a model of the route."""

    def get_queryset(self) -> models.QuerySet[Row]:
        """Return all rows of the model."""
        return UncachedQuerySet(model=self.model, using=self._db)


def read_recorder_uncached() -> None:
    """Let Django's migration recorder, in this process from now on, read its table from
    the database: `migrate`, too, must not trust a cache for what is applied."""
    MigrationRecorder.migration_qs = property(_migration_qs)  # type: ignore[assignment]


def _migration_qs(recorder: MigrationRecorder) -> models.QuerySet[Any]:
    return UncachedQuerySet(model=recorder.Migration, using=recorder.connection.alias)
