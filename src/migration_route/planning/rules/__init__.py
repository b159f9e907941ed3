"""What should the reader of a plan know? One file for each family of findings."""

from __future__ import annotations

from migration_route.planning.plan import Finding, Plan
from migration_route.planning.rules import atomicity, direction, project

_FAMILIES = (direction, atomicity, project)


def findings_of(plan: Plan) -> tuple[Finding, ...]:
    """Return every finding, family by family."""
    return tuple(finding for family in _FAMILIES for finding in family.findings(plan))
