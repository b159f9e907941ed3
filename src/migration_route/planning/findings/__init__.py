"""Collects the findings of a plan, and applies the acceptances that its migrations declare.

`core.values` lists the codes and their families; a code never changes its meaning. A
migration accepts a finding with a reason:

    class Migration(migrations.Migration):
        accepted_findings = {"drops_column": "Empty since the release of 2025."}

An accepted finding stays visible, as information, with its reason. A blocking finding
cannot be accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from django.db.migrations import Migration

from migration_route.core.enums import Severity
from migration_route.core.values import is_known
from migration_route.planning.changes import read_changes
from migration_route.planning.changes.types import PlanChanges
from migration_route.planning.findings import (
    environment,
    linters,
    locking,
    operations,
    steps,
)
from migration_route.planning.findings.kinds import make_finding
from migration_route.planning.phases import MigrationPlan
from migration_route.planning.plan import Finding, Plan

ATTRIBUTE = "accepted_findings"
"""The migration attribute that maps codes to reasons."""


def apply_acceptances(
    found: Iterable[Finding], migrations: Iterable[Migration]
) -> tuple[Finding, ...]:
    """Return the findings with the accepted ones marked, plus one finding for each invalid
    acceptance."""
    reasons: dict[tuple[str, str], str] = {}
    bad: list[Finding] = []
    for migration in migrations:
        accepted = getattr(migration, ATTRIBUTE, {})
        label = f"{migration.app_label}.{migration.name}"
        if not isinstance(accepted, dict):
            why = f"{ATTRIBUTE} is not a dict of codes and reasons"
            bad.append(make_finding("bad_acceptance", step=label, why=why))
            continue
        bad += (
            make_finding("bad_acceptance", step=label, why=why) for why in _faults(accepted)
        )
        reasons.update({(label, str(code)): why for code, why in accepted.items()})
    return (*(_marked(finding, reasons) for finding in found), *bad)


def _marked(finding: Finding, reasons: dict[tuple[str, str], str]) -> Finding:
    reason = reasons.get((finding.step or "", finding.code))
    if not _is_reason(reason) or finding.severity is Severity.BLOCKING:
        return finding
    return replace(finding, severity=Severity.INFO, accepted=str(reason).strip())


def _faults(accepted: dict[object, object]) -> Iterator[str]:
    for code, reason in accepted.items():
        if not isinstance(code, str) or not is_known(code):
            yield f"the finding {code!r} does not exist"
        elif not _is_reason(reason):
            yield f"{code!r} has no reason"


def _is_reason(reason: object) -> bool:
    return isinstance(reason, str) and bool(reason.strip())


_OF_THE_PLAN = (
    steps.direction_findings,
    steps.atomicity_findings,
    environment.project_findings,
)
_OF_ITS_CHANGES = (
    operations.loss_findings,
    locking.findings,
    operations.column_findings,
    operations.rename_findings,
    operations.constraint_findings,
    operations.mixed_change_findings,
    operations.repeatability_findings,
    operations.python_findings,
    environment.unread_findings,
)


def findings_of(plan: Plan, migrations: MigrationPlan) -> tuple[Finding, ...]:
    """Return all findings, family by family, with acceptances applied.

    `migrations` is Django's own list behind the plan. The steps should have SQL and
    forecasts: without them there are no findings about blocking.
    """
    found = [finding for rule in _OF_THE_PLAN for finding in rule(plan)]
    found += change_findings(read_changes(plan, migrations))
    found = [*_once(found), *linters.findings(plan, migrations)]
    return apply_acceptances(found, [migration for migration, _ in migrations])


def _once(found: list[Finding]) -> Iterator[Finding]:
    """Skip `not_atomic` where a more specific finding covers the same step."""
    exact = {
        f.step for f in found if f.code in {"several_operations", "concurrent_with_others"}
    }
    for finding in found:
        if finding.code != "not_atomic" or finding.step not in exact:
            yield finding


def change_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Yield the findings about what the operations of a plan do."""
    for rule in _OF_ITS_CHANGES:
        yield from rule(reading)
