"""Which findings does a migration itself say are all right, and why?

    class Migration(migrations.Migration):
        accepted_findings = {"drops_column": "Empty since the release of 2025."}

An accepted finding stays visible, as information, with its reason. What the route would
refuse cannot be accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from django.db.migrations import Migration

from migration_route.planning.plan import Finding
from migration_route.planning.rules.codes import is_known
from migration_route.vocabulary import Severity

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
