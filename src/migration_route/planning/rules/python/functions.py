"""Findings about functions that forget which database they work on, or which models."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import Reading
from migration_route.planning.plan import Finding
from migration_route.vocabulary import Severity

_DEFAULT = "default"


def findings(reading: Reading) -> Iterator[Finding]:
    """Name what reaches for the default database, and for the models of the code."""
    elsewhere = reading.plan.database != _DEFAULT
    for deed in reading.deeds:
        code = deed.python
        if code is None:
            continue
        # With one database there is no other one to write into.
        if code.forgets and (elsewhere or reading.has_several_databases):
            yield Finding(
                code="forgets_alias",
                severity=Severity.WARNING if elsewhere else Severity.INFO,
                step=deed.step,
                operation=deed.operation,
                message=f"{code.name} uses {', '.join(code.forgets)} without naming a "
                "database, so on any alias but the default one it works on the wrong one.",
                hint="Use .using(schema_editor.connection.alias), and "
                "transaction.atomic(using=...).",
            )
        if code.imports:
            yield Finding(
                code="imports_models",
                severity=Severity.WARNING,
                step=deed.step,
                operation=deed.operation,
                message=f"{code.name} uses {', '.join(code.imports)} as the code has it "
                "now, so it fails when a later release has fields that the table has not "
                "at this step.",
                hint='Use apps.get_model("app", "Model").',
            )
