"""What should the reader of a plan know? One folder for each family of findings."""

from __future__ import annotations

from django.db.migrations import Migration

from migration_route.planning.changes.reading import read_changes
from migration_route.planning.plan import Finding, Plan
from migration_route.planning.rules.acceptance import with_acceptances
from migration_route.planning.rules.blocking import statements
from migration_route.planning.rules.data_dependent import constraints
from migration_route.planning.rules.destructive import losses
from migration_route.planning.rules.incompatible import columns, names
from migration_route.planning.rules.irreversible import direction
from migration_route.planning.rules.mixed import mixture
from migration_route.planning.rules.non_atomic import atomicity, hazards
from migration_route.planning.rules.python import functions
from migration_route.planning.rules.surroundings import project, unread

_OF_THE_PLAN = (direction, atomicity, project)
_OF_ITS_CHANGES = (
    losses,
    statements,
    columns,
    names,
    constraints,
    mixture,
    hazards,
    functions,
    unread,
)


def findings_of(
    plan: Plan, migrations: list[tuple[Migration, bool]]
) -> tuple[Finding, ...]:
    """Return every finding, family by family; what a migration accepts is marked.

    `migrations` is Django's own list behind the plan. The steps should have their SQL and
    its forecasts: without them nothing is said about who has to wait.
    """
    reading = read_changes(plan, migrations)
    found = [finding for rule in _OF_THE_PLAN for finding in rule.findings(plan)]
    found += (finding for rule in _OF_ITS_CHANGES for finding in rule.findings(reading))
    return with_acceptances(found, [migration for migration, _ in migrations])
