"""What does the migration graph of this code say about this database now?

The graph is built once for each set of files and kept; the recorder is read every time.
Everything that leans on the inside of Django's loader and executor stands here.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from django.core.management.base import CommandError
from django.db import Error as DatabaseFailure
from django.db import connections
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
from migration_route.core.error_texts import message_of
from migration_route.core.errors import (
    BrokenMigrations,
    ConflictingMigrations,
    InconsistentHistory,
    RouteError,
    UnknownTarget,
)
from migration_route.planning import sources
from migration_route.planning.phases.classify import Phases, phases_of
from migration_route.vendors import open_connection, unavailable

Key = tuple[str, str]
Applied = frozenset[Key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The graph as it stands for one database with one set of applied migrations."""

    loader: MigrationLoader
    recorded: Applied  # what the recorder says, not what replacement adds
    problem: RouteError | None  # what Django's migrate would refuse before it begins
    pending: tuple[Key, ...]  # what a plain `migrate` would apply, in its order
    ahead: tuple[Key, ...]  # recorded for apps of this code, but not in its files
    phases: Phases  # of what is pending


class _Kept:
    """The graphs that were built last, one for each database."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_alias: dict[str, tuple[object, Graph]] = {}


_kept = _Kept()


@contextmanager
def without_translations() -> Iterator[None]:
    """Evaluate translated texts as they stand in the source, as Django's `migrate` and
    `makemigrations` do: neither the language of a request nor LANGUAGE_CODE may change
    a default, a choice or a verbose name that a migration holds."""
    with translation.override(None):
        yield


def read_recorder(alias: str) -> Applied:
    """Return what is recorded as applied: (app, name) pairs, none without a table.

    Raises `DatabaseUnavailable`.
    """
    connection = open_connection(alias)
    recorder = MigrationRecorder(connection)
    try:
        if not recorder.has_table():
            return frozenset()
        # Read at every look at status and readiness: without the cost of model rows.
        table = connection.ops.quote_name(recorder.Migration._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT app, name FROM {table}")  # noqa: S608 - Django's own name
            return frozenset(cursor.fetchall())
    except Exception as error:
        with suppress(DatabaseFailure):
            connection.close()
        raise unavailable(alias, error) from error


@without_translations()
def read_graph(alias: str, recorded: Applied | None = None) -> Graph:
    """Return the graph for a database as it is now, or as its recorder has just said.

    Raises `DatabaseUnavailable`, and `BrokenMigrations` when the files cannot be
    imported or do not fit together.
    """
    if recorded is None:
        recorded = read_recorder(alias)
    with _kept.lock:
        state = (sources.layout(), recorded)
        kept = _kept.by_alias.get(alias)
        if kept is not None and kept[0] == state:
            return kept[1]
        loader = _load(alias)
        plan = _PlanningExecutor(loader, alias).migration_plan(loader.graph.leaf_nodes())
        graph = Graph(
            loader=loader,
            recorded=recorded,
            problem=_problem(loader, alias),
            pending=tuple((migration.app_label, migration.name) for migration, _ in plan),
            ahead=_ahead(loader, recorded),
            phases=phases_of(plan, loader, without_route(recorded)),
        )
        _kept.by_alias[alias] = (state, graph)
        return graph


@without_translations()
def read_graph_of(alias: str, migrations: Iterable[Migration]) -> Graph:
    """Return the graph that these migrations of a plan stand in.

    A plan to a migration that a squashed one replaces was made without replacements.
    """
    graph = read_graph(alias)
    nodes = graph.loader.graph.nodes
    if all((migration.app_label, migration.name) in nodes for migration in migrations):
        return graph
    return replace(
        graph, loader=MigrationLoader(connections[alias], replace_migrations=False)
    )


@without_translations()
def _load(alias: str, foreseen: Applied | None = None) -> MigrationLoader:
    importlib.invalidate_caches()  # a file may be younger than the last look
    sources.remember()
    try:
        if foreseen is not None:
            return _Foreseen(alias, foreseen)
        return MigrationLoader(connections[alias])
    except DatabaseFailure as error:
        raise unavailable(alias, error) from error
    except (NodeNotFoundError, CircularDependencyError, BadMigrationError) as error:
        raise BrokenMigrations(
            f"The migrations do not fit together: {message_of(error)}"
        ) from error
    except (Exception, SystemExit, CommandError) as error:
        # Whatever a migration's module does while it is imported, it must not end
        # the process that only wants to read it.
        why = f"{type(error).__name__}: {message_of(error)}"
        raise BrokenMigrations(f"The migrations cannot be imported: {why}") from error


def forget(alias: str) -> None:
    """Forget the graph of a database."""
    with _kept.lock:
        _kept.by_alias.pop(alias, None)


def _problem(loader: MigrationLoader, alias: str) -> RouteError | None:
    """Return what Django's migrate refuses before it begins, in Django's order."""
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
        f"There is more than one last migration: {names}.",
        conflicts={app: sorted(names) for app, names in conflicts.items()},
    )


def without_route(recorded: Applied) -> Applied:
    """Leave out this app's own: they come before a first run, and no release needs them."""
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
    """Django's executor, over a loader that is there already; it only plans."""

    def __init__(self, loader: MigrationLoader, alias: str) -> None:
        self.connection = connections[alias]
        self.loader = loader
        self.recorder = MigrationRecorder(connections[alias])
        self.progress_callback = None


def migration_plan(
    loader: MigrationLoader, alias: str, keys: Iterable[tuple[str, str | None]]
) -> list[tuple[Migration, bool]]:
    """Return Django's own plan, in the order in which its executor carries it out:
    migrations, each with whether it goes backwards."""
    targets = list(keys)
    with _kept.lock:
        try:
            plan = _PlanningExecutor(loader, alias).migration_plan(targets)
            if targets != loader.graph.leaf_nodes():  # then the plan is the full one
                plan = in_order_of_execution(loader, alias, plan)
        except NodeNotFoundError as error:
            # Before Django 6.0, one that an unapplied squashed migration replaces.
            raise UnknownTarget(
                f"Django cannot go there: {error}",
                hint="Go to the squashed migration that stands for it.",
            ) from error
        finally:
            if not loader.replace_migrations:  # type: ignore[attr-defined]
                # A target that a squashed migration replaces: Django has rebuilt the
                # graph without replacements, which is good for this plan only.
                forget(alias)
    return plan


def in_order_of_execution(
    loader: MigrationLoader, alias: str, plan: list[tuple[Migration, bool]]
) -> list[tuple[Migration, bool]]:
    """Return a plan of Django's in the order of its execution.

    Django lists the steps to a target by the target's own dependencies, applies them in
    the order of the plan for an empty database (`MigrationExecutor.migrate`), and takes
    steps back in the order in which they are listed. A plan that goes both ways, which it
    refuses, is returned as it is.
    """
    if len(plan) < 2 or any(backwards for _, backwards in plan):
        return plan
    full = _PlanningExecutor(loader, alias).migration_plan(
        loader.graph.leaf_nodes(), clean_start=True
    )
    places = {migration: place for place, (migration, _) in enumerate(full)}
    return sorted(plan, key=lambda item: places[item[0]])


class _Foreseen(MigrationLoader):
    """Django's loader, over a recorder as it will be."""

    def __init__(self, alias: str, recorded: Applied) -> None:
        self._recorded = recorded
        super().__init__(connections[alias])

    @property
    def applied_migrations(self) -> dict[Key, Any]:
        """What counts as applied: Django fills it from the recorder, then corrects it."""
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
    """Return what the next `migrate` will find when this plan has been carried out: which
    squashed migrations stand in the graph depends on what is applied.

    Raises `BrokenMigrations` where they will not fit together any more.
    """
    after = set(recorded)
    for migration, backwards in plan:
        keys = _all_that_it_records((migration.app_label, migration.name), loader)
        after = after.difference(keys) if backwards else after.union(keys)
    # What the end of every `migrate` does: MigrationExecutor.check_replacements.
    after.update(key for key in loader.replacements if _is_replaced(key, loader, after))
    foreseen = frozenset(after)
    return _load(alias, foreseen), foreseen


def _all_that_it_records(key: Key, loader: MigrationLoader) -> Iterator[Key]:
    """Go through a migration and what it replaces: MigrationExecutor.record_migration."""
    yield key
    if key in loader.replacements:
        for replaced in loader.replacements[key].replaces:
            yield from _all_that_it_records((replaced[0], replaced[1]), loader)


def _is_replaced(key: Key, loader: MigrationLoader, applied: set[Key]) -> bool:
    """Tell whether all that a migration replaces is applied, or it itself if nothing."""
    if key not in loader.replacements:
        return key in applied
    return all(
        _is_replaced((app, name), loader, applied)
        for app, name in loader.replacements[key].replaces
    )
