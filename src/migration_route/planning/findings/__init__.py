"""What should the reader of a plan know? One folder for each family of findings.

Which findings are there? A code never changes its meaning.

Which findings does a migration itself say are all right, and why?

    class Migration(migrations.Migration):
        accepted_findings = {"drops_column": "Empty since the release of 2025."}

An accepted finding stays visible, as information, with its reason. What the route would
refuse cannot be accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from django.db.migrations import Migration

from migration_route.core.enums import Severity
from migration_route.core.values import CODES, is_known
from migration_route.planning.changes.extract import read_changes
from migration_route.planning.changes.types import PlanChanges
from migration_route.planning.findings import atomicity, data, environment, linters, locking
from migration_route.planning.plan import Finding, Plan

__all__ = [
    "CODES",
    "is_known",
]

ATTRIBUTE = "accepted_findings"
"""The name of the attribute of a migration: code to reason."""


def with_acceptances(
    found: Iterable[Finding], migrations: Iterable[Migration]
) -> tuple[Finding, ...]:
    """Return the findings, those that are accepted marked so, and one about each
    acceptance that is none."""
    reasons: dict[tuple[str, str], str] = {}
    bad: list[Finding] = []
    for migration in migrations:
        accepted = getattr(migration, ATTRIBUTE, {})
        label = f"{migration.app_label}.{migration.name}"
        if not isinstance(accepted, dict):
            bad.append(_bad(label, f"its {ATTRIBUTE} is no dict of codes and reasons"))
            continue
        bad += (_bad(label, why) for why in _faults(accepted))
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
            yield f"there is no finding {code!r}"
        elif not _is_reason(reason):
            yield f"it gives no reason for {code!r}"


def _is_reason(reason: object) -> bool:
    return isinstance(reason, str) and bool(reason.strip())


def _bad(label: str, why: str) -> Finding:
    return Finding(
        code="bad_acceptance",
        severity=Severity.WARNING,
        step=label,
        message=f"What {label} accepts does not count, because {why}.",
        hint='Write accepted_findings = {"the code": "the reason"} with a code of the '
        "reference.",
    )


_OF_THE_PLAN = (
    atomicity.direction_findings,
    atomicity.atomicity_findings,
    environment.project_findings,
)
_OF_ITS_CHANGES = (
    data.losses_findings,
    locking.findings,
    data.columns_findings,
    data.names_findings,
    data.constraints_findings,
    atomicity.mixture_findings,
    atomicity.hazards_findings,
    atomicity.functions_findings,
    environment.unread_findings,
)


def findings_of(
    plan: Plan, migrations: list[tuple[Migration, bool]]
) -> tuple[Finding, ...]:
    """Return every finding, family by family; what a migration accepts is marked.

    `migrations` is Django's own list behind the plan. The steps should have their SQL and
    its forecasts: without them nothing is said about who has to wait.
    """
    found = [finding for rule in _OF_THE_PLAN for finding in rule(plan)]
    found += findings_in(read_changes(plan, migrations))
    found = [*_once(found), *linters.findings(plan, migrations)]
    return with_acceptances(found, [migration for migration, _ in migrations])


def _once(found: list[Finding]) -> Iterator[Finding]:
    """Leave out what another finding about the same step says more exactly."""
    exact = {
        f.step for f in found if f.code in {"several_operations", "concurrent_with_others"}
    }
    for finding in found:
        if finding.code != "not_atomic" or finding.step not in exact:
            yield finding


def findings_in(reading: PlanChanges) -> Iterator[Finding]:
    """Go through the findings about what the operations of a plan do."""
    for rule in _OF_ITS_CHANGES:
        yield from rule(reading)
