"""Findings about what the plan leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from django.apps import apps
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from migration_route.errors import RouteError
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.plan import Finding, Plan
from migration_route.planning.planner import pending
from migration_route.targets import all_aliases
from migration_route.vocabulary import Severity


def findings(plan: Plan) -> Iterator[Finding]:
    """Name what no migration covers, and databases with work of their own."""
    changed = _apps_with_changes(sources.layout())
    if changed:
        yield Finding(
            code="models_changed",
            severity=Severity.WARNING,
            message=f"Models of {', '.join(changed)} have changes that no migration holds.",
            hint="Run 'manage.py makemigrations' and deploy the result.",
        )
    for alias in all_aliases():
        if alias != plan.database and (count := _pending(alias)):
            yield Finding(
                code="other_database",
                severity=Severity.INFO,
                message=f"The database {alias!r} has {count} pending migrations, "
                "which are not part of this plan.",
                hint=f"Ask for the plan of {alias!r} as well.",
            )


@lru_cache(maxsize=2)
@graphs.without_translations()
def _apps_with_changes(layout: object) -> tuple[str, ...]:
    """Return the apps whose models are ahead of their migrations, once for each layout
    of the files: the models of a process do not change while it lives."""
    del layout
    loader = MigrationLoader(None, ignore_no_migrations=True)
    changes = MigrationAutodetector(
        loader.project_state(), ProjectState.from_apps(apps)
    ).changes(graph=loader.graph)
    return tuple(sorted(changes))


def _pending(alias: str) -> int:
    try:
        graph = graphs.read_graph(alias)
    except RouteError:
        return 0  # status says what is wrong with that database
    return len(pending(graph, alias))
