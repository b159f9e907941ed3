"""What does django-safe-migrations say about the steps of a plan? (extra `lint`)"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from importlib.util import find_spec

from django.db.migrations import Migration

from migration_route.planning import graph as graphs
from migration_route.planning.engines.values import Result
from migration_route.planning.plan import Plan

logger = logging.getLogger("migration_route.planning")

BUDGET = 0.5
"""Seconds: it builds the state of the project anew for many an operation."""


def results(plan: Plan, migrations: list[tuple[Migration, bool]]) -> Iterator[Result]:
    """Go through its issues; none where it is not installed."""
    if find_spec("django_safe_migrations") is None:
        return
    from django_safe_migrations.analyzer import MigrationAnalyzer

    loader = graphs.read_graph(plan.database).loader
    # Its own settings and suppressions count, as they do on its command line.
    analyzer = MigrationAnalyzer(db_vendor=plan.vendor)
    deadline = time.monotonic() + BUDGET
    for migration, _ in migrations:
        if time.monotonic() > deadline:
            logger.info("django-safe-migrations has had its time before %s", migration)
            return
        for issue in analyzer.analyze_migration(migration, loader=loader):
            yield Result(
                code=f"safe_migrations.{issue.rule_id}",
                step=f"{migration.app_label}.{migration.name}",
                operation=issue.operation_index,
                message=" ".join(issue.message.split()),
                hint=_first_lines(issue.suggestion or ""),
            )


def _first_lines(suggestion: str) -> str:
    """Return the first paragraph of a suggestion; examples of code follow it."""
    return " ".join(suggestion.strip().partition("\n\n")[0].split())
