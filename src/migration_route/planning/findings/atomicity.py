"""Findings about steps that the database cannot undo as a whole.

Which findings are about going back, and about what has no way back?

Findings about going back: what is lost, and what cannot be undone.

Which findings are about a step that changes data and schema in one go?

Findings about data and schema in one transaction.

Which findings are about steps that may stay half done?

Findings about what stays when a step without a transaction stops midway.

Which findings are about the code that a migration runs?

Findings about functions that forget which database they work on, or which models.
"""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.core.enums import Direction, Mode, Severity
from migration_route.planning.changes.types import Deed, PlanChanges
from migration_route.planning.plan import Finding, Plan, Step


def direction_findings(plan: Plan) -> Iterator[Finding]:
    """Say that a plan goes backwards, and which steps cannot be undone."""
    if plan.direction is Direction.BACKWARDS and plan.mode is not Mode.FAKE:
        yield Finding(
            code="backwards",
            severity=Severity.WARNING,
            message="This plan goes backwards: what its steps once added is removed, "
            "with the data in it.",
            hint="It needs the right 'reverse'.",
        )
    for step in plan.steps:
        if step.reversible or plan.mode is Mode.FAKE:
            continue
        if step.direction is Direction.BACKWARDS:
            yield Finding(
                code="irreversible",
                severity=Severity.BLOCKING,
                step=step.label,
                message=f"{step.label} cannot be undone: an operation has no way back.",
                hint="Go forwards with a new migration instead.",
            )
        else:
            yield Finding(
                code="one_way",
                severity=Severity.INFO,
                step=step.label,
                message=f"Once {step.label} is applied, there is no way back through it.",
                hint="Give RunPython a reverse_code, or RunSQL a reverse_sql.",
            )


def mixture_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Name the steps that change rows and the schema of tables that are there."""
    if not reading.plan.transactional_ddl:
        return
    for step in reading.plan.steps:
        deeds = [deed for deed in reading.deeds if deed.step == step.label]
        writes = [deed.operation for deed in deeds if deed.writes_rows]
        alters = [deed.operation for deed in deeds if _alters(deed, step)]
        if step.atomic and writes and alters:
            yield Finding(
                code="mixes_data_and_schema",
                severity=Severity.WARNING,
                step=step.label,
                operation=writes[0],
                message=f"{step.label} changes rows and schema in one transaction, so "
                f"{_what_happens(writes, alters, reading.plan.vendor)}.",
                hint="Make a migration of its own for the data.",
            )


def _alters(deed: Deed, step: Step) -> bool:
    """Tell whether an operation changes the schema of a table that is there; one whose
    SQL is known to be empty does not."""
    if not deed.tables:
        return False
    known = step.operations[deed.operation : deed.operation + 1]
    return not known or known[0].sql != ()


def _what_happens(writes: list[int], alters: list[int], vendor: str) -> str:
    if vendor == "postgresql" and min(writes) < max(alters):
        return (
            "ALTER TABLE may be refused for pending trigger events, and the locks of both "
            "are held until the end"
        )
    return "the lock of the schema change is held for as long as the data takes"


def atomicity_findings(plan: Plan) -> Iterator[Finding]:
    """Name the steps that may stop midway."""
    if plan.steps and not plan.transactional_ddl:
        yield Finding(
            code="ddl_commits",
            severity=Severity.WARNING,
            message="This database commits every change of the schema at once: a step "
            "that fails or is cancelled midway stays half done.",
            hint="Prefer migrations with one operation each.",
        )
        return
    for step in plan.steps:
        if not step.rolls_back:
            yield Finding(
                code="not_atomic",
                severity=Severity.WARNING,
                step=step.label,
                message=f"{step.label} runs outside of a transaction: if it fails or is "
                "cancelled midway, it stays half done.",
                hint="Keep one operation in a migration with atomic = False.",
            )


def hazards_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Name what makes a step without a transaction hard to repeat."""
    for step in reading.plan.steps:
        if step.atomic:
            continue
        deeds = [deed for deed in reading.deeds if deed.step == step.label]
        concurrent = [deed.operation for deed in deeds if deed.is_concurrent]
        if len(deeds) > 1 and concurrent:
            yield Finding(
                code="concurrent_with_others",
                severity=Severity.WARNING,
                step=step.label,
                operation=concurrent[0],
                message=f"{step.label} works on an index CONCURRENTLY beside other "
                "operations, so when that fails, what came before it stays and cannot "
                "simply be repeated.",
                hint="Make a migration of its own for each concurrent index.",
            )
        elif len(deeds) > 1:
            yield Finding(
                code="several_operations",
                severity=Severity.WARNING,
                step=step.label,
                message=f"{step.label} has {len(deeds)} operations outside of a "
                "transaction, so when one fails, those before it stay and cannot simply "
                "be repeated.",
                hint="Make a migration of its own for each of them.",
            )
        for deed in deeds:
            if deed.is_unprotected:
                yield Finding(
                    code="unprotected_python",
                    severity=Severity.INFO,
                    step=deed.step,
                    operation=deed.operation,
                    message="This Python runs outside of a transaction, so what it has "
                    "written stays when it fails, and runs again when the step does.",
                    hint="Let it pass over what is done already, or give RunPython "
                    "atomic=True.",
                )


_DEFAULT = "default"


def functions_findings(reading: PlanChanges) -> Iterator[Finding]:
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
