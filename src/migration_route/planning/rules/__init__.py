"""What should the reader of a plan know? One folder for each family of findings."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.migrations import Migration

from migration_route.planning import engines
from migration_route.planning.changes.reading import read_changes
from migration_route.planning.changes.values import Reading
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
    found = [finding for rule in _OF_THE_PLAN for finding in rule.findings(plan)]
    found += findings_in(read_changes(plan, migrations))
    found = [*_once(found), *engines.findings(plan, migrations)]
    return with_acceptances(found, [migration for migration, _ in migrations])


def _once(found: list[Finding]) -> Iterator[Finding]:
    """Leave out what another finding about the same step says more exactly."""
    exact = {
        f.step for f in found if f.code in {"several_operations", "concurrent_with_others"}
    }
    for finding in found:
        if finding.code != "not_atomic" or finding.step not in exact:
            yield finding


def findings_in(reading: Reading) -> Iterator[Finding]:
    """Go through the findings about what the operations of a plan do."""
    for rule in _OF_ITS_CHANGES:
        yield from rule.findings(reading)
