"""The migration graph of this code for a database, as it is now.

The graph is cached for each set of files; the recorder is read every time. All code that
depends on the internals of Django's loader and executor is in this module.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from django.core.management.base import CommandError
from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.exceptions import (
    BadMigrationError,
    CircularDependencyError,
    InconsistentMigrationHistory,
    NodeNotFoundError,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import translation

from migration_route.core.enums import OWN_APP
from migration_route.core.errors import (
    BrokenMigrations,
    ConflictingMigrations,
    InconsistentHistory,
    RouteError,
    UnknownTarget,
)
from migration_route.core.redaction import message_of
from migration_route.planning import sources
from migration_route.planning.phases import MigrationPlan, Phases, phases_of
from migration_route.vendors import fetch_rows, open_connection, unavailable

Key = tuple[str, str]
Applied = frozenset[Key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The graph for one database with one set of applied migrations."""

    loader: MigrationLoader
    recorded: Applied  # as recorded, without what replacements add
    problem: RouteError | None  # what Django's migrate would refuse before it starts
    plan: MigrationPlan  # Django's own, of a plain `migrate`; do not change it
    pending: tuple[Key, ...]  # what a plain `migrate` would apply, in its order
    ahead: tuple[Key, ...]  # recorded for apps of this code, but not in its files
    phases: Phases  # of the pending migrations


class _Cache:
    """The graph that was built last for each database."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_alias: dict[str, tuple[object, Graph]] = {}
        self.rows: dict[str, tuple[list[tuple[Any, ...]], Applied]] = {}

    def shared(self, alias: str, rows: list[tuple[Any, ...]]) -> Applied:
        """Return the set of these rows: the last one of this database while it is equal,
        which then needs no further comparison."""
        known = self.rows.get(alias)
        if known is not None and known[0] == rows:
            return known[1]
        found = frozenset(rows)
        self.rows[alias] = (rows, found)
        return found


_cache = _Cache()


@contextmanager
def without_translations() -> Iterator[None]:
    """Evaluate translated texts as in the source, as Django's `migrate` and
    `makemigrations` do. Neither the language of a request nor LANGUAGE_CODE may change a
    default, a choice or a verbose name in a migration."""
    with translation.override(None):
        yield


def read_recorder(alias: str) -> Applied:
    """Return the recorded (app, name) pairs; none without a table.

    Raises `DatabaseUnavailable`.
    """
    connection = open_connection(alias)
    try:
        return recorded_in(connection)
    except Exception as error:
        with suppress(DatabaseFailure):
            connection.close()
        raise unavailable(alias, error) from error


def recorded_in(connection: BaseDatabaseWrapper) -> Applied:
    """Return the recorded (app, name) pairs of an open connection, in one query.

    If the query fails, further queries determine whether the table exists. A failed query
    would abort a surrounding transaction, so these come first in one. Raises
    `django.db.Error`.
    """
    recorder = MigrationRecorder(connection)
    table = connection.ops.quote_name(recorder.Migration._meta.db_table)
    # Status and readiness read it on each request, so no model rows are built.
    query = f"SELECT app, name FROM {table}"  # noqa: S608 - Django's own name
    if connection.in_atomic_block and not recorder.has_table():
        return frozenset()
    try:
        rows = fetch_rows(connection, query)
    except DatabaseFailure:
        if connection.in_atomic_block:
            raise
        if not connection.get_autocommit():
            connection.rollback()
        if not recorder.has_table():
            return frozenset()
        rows = fetch_rows(connection, query)  # the table was just created
    return _cache.shared(connection.alias, rows)


@without_translations()
def read_graph(alias: str, recorded: Applied | None = None) -> Graph:
    """Return the graph for a database as it is now, or with these recorded migrations.

    Raises `DatabaseUnavailable`, and `BrokenMigrations` when the files cannot be imported
    or are inconsistent.
    """
    if recorded is None:
        recorded = read_recorder(alias)
    with _cache.lock:
        state = (sources.layout(), recorded)
        cached = _cache.by_alias.get(alias)
        if cached is not None and cached[0] == state:
            return cached[1]
        # Over the rows of the key: a row that is written meanwhile is not in it.
        loader = _load(alias, recorded)
        plan = _PlanningExecutor(loader, alias).migration_plan(loader.graph.leaf_nodes())
        graph = Graph(
            loader=loader,
            recorded=recorded,
            problem=_problem(loader, alias),
            plan=plan,
            pending=tuple((migration.app_label, migration.name) for migration, _ in plan),
            ahead=_ahead(loader, recorded),
            phases=phases_of(plan, loader, without_own_migrations(recorded)),
        )
        _cache.by_alias[alias] = (state, graph)
        return graph


@without_translations()
def read_graph_of(alias: str, migrations: Iterable[Migration]) -> Graph:
    """Return the graph that contains these migrations of a plan.

    A plan to a migration that a squashed one replaces was made without replacements.
    """
    graph = read_graph(alias)
    nodes = graph.loader.graph.nodes
    if all((migration.app_label, migration.name) in nodes for migration in migrations):
        return graph
    return replace(
        graph, loader=MigrationLoader(connections[alias], replace_migrations=False)
    )


def dependencies_within(
    alias: str, migrations: Iterable[Migration]
) -> dict[Key, frozenset[Key]]:
    """Return, for each of these migrations of a plan, which of the others it depends on."""
    found = list(migrations)
    nodes = read_graph_of(alias, found).loader.graph.node_map
    keys = {(migration.app_label, migration.name) for migration in found}
    return {
        key: frozenset(parent.key for parent in nodes[key].parents if parent.key in keys)
        for key in keys & nodes.keys()
    }


@without_translations()
def _load(alias: str, recorded: Applied) -> MigrationLoader:
    importlib.invalidate_caches()  # a file may be newer than the cached listing
    sources.remember_digests()
    try:
        return _RecordedLoader(alias, recorded)
    except DatabaseFailure as error:
        raise unavailable(alias, error) from error
    except (NodeNotFoundError, CircularDependencyError, BadMigrationError) as error:
        raise BrokenMigrations(
            f"The migrations are inconsistent: {message_of(error)}"
        ) from error
    except (Exception, SystemExit, CommandError) as error:
        # A migration's module may do anything on import, but must not end a process
        # that only reads it.
        why = f"{type(error).__name__}: {message_of(error)}"
        raise BrokenMigrations(f"The migrations cannot be imported: {why}") from error


def forget_graph(alias: str) -> None:
    with _cache.lock:
        _cache.by_alias.pop(alias, None)


def _problem(loader: MigrationLoader, alias: str) -> RouteError | None:
    """Return what Django's migrate refuses before it starts, in Django's order."""
    try:
        loader.check_consistent_history(connections[alias])
    except InconsistentMigrationHistory as error:
        return InconsistentHistory(str(error))
    conflicts = loader.detect_conflicts()
    if not conflicts:
        return None
    names = "; ".join(
        f"{', '.join(sorted(names))} in {app}" for app, names in sorted(conflicts.items())
    )
    return ConflictingMigrations(
        f"There is more than one leaf migration: {names}.",
        conflicts={app: sorted(names) for app, names in conflicts.items()},
    )


@lru_cache(maxsize=64)
def without_own_migrations(recorded: Applied) -> Applied:
    """Exclude this app's own migrations: they precede a first run, and no release needs
    them."""
    return frozenset(key for key in recorded if key[0] != OWN_APP)


def _ahead(loader: MigrationLoader, recorded: Applied) -> tuple[Key, ...]:
    return tuple(
        sorted(
            (app, name)
            for app, name in recorded
            if app in loader.migrated_apps and (app, name) not in loader.disk_migrations
        )
    )


class _PlanningExecutor(MigrationExecutor):
    """Django's executor over an existing loader; it only plans."""

    def __init__(self, loader: MigrationLoader, alias: str) -> None:
        self.connection = connections[alias]
        self.loader = loader
        self.recorder = MigrationRecorder(connections[alias])
        self.progress_callback = None


def migration_plan(
    loader: MigrationLoader, alias: str, keys: Iterable[tuple[str, str | None]]
) -> MigrationPlan:
    """Return Django's own plan in the order of execution: migrations, each with whether it
    goes backwards."""
    targets = list(keys)
    with _cache.lock:
        try:
            plan = _PlanningExecutor(loader, alias).migration_plan(targets)
            if targets != loader.graph.leaf_nodes():  # then the plan is the full one
                plan = in_order_of_execution(loader, alias, plan)
        except NodeNotFoundError as error:
            # Before Django 6.0, one that an unapplied squashed migration replaces.
            raise UnknownTarget(
                f"Django cannot migrate to this target: {error}",
                hint="Use the squashed migration that replaces it as the target.",
            ) from error
        finally:
            if not loader.replace_migrations:  # type: ignore[attr-defined]
                # A squashed migration replaces the target: Django has rebuilt the graph
                # without replacements, which is valid for this plan only.
                forget_graph(alias)
    return plan


def in_order_of_execution(
    loader: MigrationLoader, alias: str, plan: MigrationPlan
) -> MigrationPlan:
    """Return a plan of Django's in the order of its execution.

    Django lists the steps to a target by the target's own dependencies, but applies them in
    the order of the plan for an empty database (`MigrationExecutor.migrate`), and reverses
    steps in the listed order. A plan in both directions, which Django refuses, is returned
    unchanged.
    """
    if len(plan) < 2 or any(backwards for _, backwards in plan):
        return plan
    full = _PlanningExecutor(loader, alias).migration_plan(
        loader.graph.leaf_nodes(), clean_start=True
    )
    positions = {migration: position for position, (migration, _) in enumerate(full)}
    return sorted(plan, key=lambda item: positions[item[0]])


class _RecordedLoader(MigrationLoader):
    """Django's loader over a given set of recorded migrations."""

    def __init__(self, alias: str, recorded: Applied) -> None:
        self._recorded = recorded
        super().__init__(connections[alias])

    @property
    def applied_migrations(self) -> dict[Key, Any]:
        """The applied migrations: Django sets them from the recorder, then corrects
        them."""
        return self._applied

    @applied_migrations.setter
    def applied_migrations(self, read: object) -> None:
        del read
        self._applied: dict[Key, Any] = dict.fromkeys(self._recorded)


def simulate_applied(
    loader: MigrationLoader,
    alias: str,
    recorded: Applied,
    plan: Iterable[tuple[Migration, bool]],
) -> tuple[MigrationLoader, Applied]:
    """Return what the next `migrate` will find after this plan: which squashed migrations
    are in the graph depends on what is applied.

    Raises `BrokenMigrations` where the migrations would no longer be consistent.
    """
    after = set(recorded)
    for migration, backwards in plan:
        keys = _recorded_with((migration.app_label, migration.name), loader)
        after = after.difference(keys) if backwards else after.union(keys)
    # Every `migrate` ends with this: MigrationExecutor.check_replacements.
    after.update(key for key in loader.replacements if _is_replaced(key, loader, after))
    simulated = frozenset(after)
    return _load(alias, simulated), simulated


def _recorded_with(key: Key, loader: MigrationLoader) -> Iterator[Key]:
    """Yield a migration and those it replaces: MigrationExecutor.record_migration."""
    yield key
    if key in loader.replacements:
        for replaced in loader.replacements[key].replaces:
            yield from _recorded_with((replaced[0], replaced[1]), loader)


def _is_replaced(key: Key, loader: MigrationLoader, applied: set[Key]) -> bool:
    """Return whether everything that a migration replaces is applied; itself, if it
    replaces nothing."""
    if key not in loader.replacements:
        return key in applied
    return all(
        _is_replaced((app, name), loader, applied)
        for app, name in loader.replacements[key].replaces
    )
