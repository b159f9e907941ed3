"""Reads how many rows the tables have that the steps of a plan change."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from django.apps import apps
from django.db import DatabaseError
from django.db.migrations import CreateModel, Migration, RunSQL
from django.db.migrations.operations.models import ModelOperation

from migration_route.conf.databases import using_private_connection
from migration_route.core.errors import RouteError
from migration_route.planning.graph import read_graph
from migration_route.planning.impact import parts_of
from migration_route.planning.recorders import read_recorder
from migration_route.vendors import vendor_of

logger = logging.getLogger("migration_route.planning")

Key = tuple[str, str]


def rows_of_steps(alias: str, keys: Collection[Key]) -> Mapping[Key, int]:
    """Return the current rows of the tables that each migration changes, as the database
    estimates them.

    A step is left out if its tables are not known from the models of this code, as those of
    raw SQL and Python are not, if a size is not known, or if the database does not answer.
    """
    if not keys:
        return {}
    try:
        found = read_graph(alias, read_recorder(alias)).loader.disk_migrations
        by_step = {key: _tables(found[key]) for key in keys if key in found}
        known = {key: tables for key, tables in by_step.items() if tables}
        wanted = frozenset().union(*known.values())
        with using_private_connection(alias) as connection:
            with connection.cursor() as cursor:
                existing = wanted & set(connection.introspection.table_names(cursor))
            forecaster = vendor_of(alias).forecaster(connection)
            sizes = {size.table: size.rows for size in forecaster.sizes(existing)}
    except (DatabaseError, RouteError):
        logger.info("No table sizes of %s", alias, exc_info=True)
        return {}
    rows: dict[Key, int] = {}
    for key, tables in known.items():
        # A table that an earlier step of the plan creates has no rows yet.
        counts = [sizes.get(table) for table in tables & existing]
        if counts and None not in counts:
            rows[key] = sum(filter(None, counts))
    return rows


def _tables(migration: Migration) -> frozenset[str]:
    """Return the tables of the models that a migration changes; none if they are not all
    known."""
    tables = set()
    for operation in migration.operations:
        for part in parts_of(operation):
            if isinstance(part, CreateModel):
                continue
            if isinstance(part, RunSQL) or not part.reduces_to_sql:
                return frozenset()
            name = getattr(part, "model_name", None)
            if name is None and isinstance(part, ModelOperation):
                name = part.name
            try:
                tables.add(apps.get_model(migration.app_label, name or "")._meta.db_table)
            except (LookupError, ValueError):
                return frozenset()
    return frozenset(tables)
