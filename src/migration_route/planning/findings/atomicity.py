"""Findings about steps that the database cannot undo: reversal, transactions, and Python.

They cover plans that go backwards, irreversible steps, data and schema changes in one
transaction, steps that can be left half applied, and functions that ignore the database
alias or import models.
"""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.core.enums import Direction, Mode, Severity
from migration_route.planning.changes.types import OperationEffect, PlanChanges
from migration_route.planning.plan import Finding, Plan, Step


def direction_findings(plan: Plan) -> Iterator[Finding]:
    """Report that a plan goes backwards, and which steps are irreversible."""
    if plan.direction is Direction.BACKWARDS and plan.mode is not Mode.FAKE:
        yield Finding(
            code="backwards",
            severity=Severity.WARNING,
            message="This plan goes backwards: it removes what its steps added, including "
            "the data.",
            hint="Use an account or a token with the 'reverse' permission.",
        )
    for step in plan.steps:
        if step.reversible or plan.mode is Mode.FAKE:
            continue
        if step.direction is Direction.BACKWARDS:
            yield Finding(
                code="irreversible",
                severity=Severity.BLOCKING,
                step=step.label,
                message=f"{step.label} cannot be reversed: one of its operations is "
                "irreversible.",
                hint="Undo the change with a new forward migration instead.",
            )
        else:
            yield Finding(
                code="one_way",
                severity=Severity.INFO,
                step=step.label,
                message=f"{step.label} is irreversible: once applied, it cannot be "
                "migrated backwards.",
                hint="Pass reverse_code to RunPython, or reverse_sql to RunSQL.",
            )


def mixed_change_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report steps that change both rows and the schema of existing tables."""
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
                hint="Move the data change into a separate migration.",
            )


def _alters(deed: OperationEffect, step: Step) -> bool:
    """Return whether an operation changes the schema of an existing table; an operation
    whose SQL is known to be empty does not."""
    if not deed.tables:
        return False
    known = step.operations[deed.operation : deed.operation + 1]
    return not known or known[0].sql != ()


def _what_happens(writes: list[int], alters: list[int], vendor: str) -> str:
    if vendor == "postgresql" and min(writes) < max(alters):
        return (
            "PostgreSQL can reject ALTER TABLE because of pending trigger events, and the "
            "locks of both changes are held until the transaction ends"
        )
    return "the lock of the schema change is held until the data change is done"


def atomicity_findings(plan: Plan) -> Iterator[Finding]:
    """Report the steps that can be left half applied."""
    if plan.steps and not plan.transactional_ddl:
        yield Finding(
            code="ddl_commits",
            severity=Severity.WARNING,
            message="This database commits each schema change immediately: a step that "
            "fails or is cancelled midway is left half applied.",
            hint="Prefer migrations with one operation each.",
        )
        return
    for step in plan.steps:
        if not step.rolls_back:
            yield Finding(
                code="not_atomic",
                severity=Severity.WARNING,
                step=step.label,
                message=f"{step.label} runs outside a transaction: if it fails or is "
                "cancelled midway, it is left half applied.",
                hint="Limit a migration with atomic = False to one operation.",
            )


def repeatability_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report what makes a step without a transaction hard to repeat."""
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
                message=f"{step.label} combines a CONCURRENTLY index operation with other "
                "operations: if it fails, the operations before it stay applied, and the "
                "step cannot simply be repeated.",
                hint="Put each concurrent index operation into a separate migration.",
            )
        elif len(deeds) > 1:
            yield Finding(
                code="several_operations",
                severity=Severity.WARNING,
                step=step.label,
                message=f"{step.label} runs {len(deeds)} operations outside a transaction: "
                "if one fails, the operations before it stay applied, and the step cannot "
                "simply be repeated.",
                hint="Put each operation into a separate migration.",
            )
        for deed in deeds:
            if deed.is_unprotected:
                yield Finding(
                    code="unprotected_python",
                    severity=Severity.INFO,
                    step=deed.step,
                    operation=deed.operation,
                    message="This Python code runs outside a transaction: if it fails, "
                    "what it has written stays, and repeating the step runs it again.",
                    hint="Make the code skip what is already done, or pass atomic=True to "
                    "RunPython.",
                )


_DEFAULT = "default"


def python_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report functions that use the default database, or models from the current code."""
    elsewhere = reading.plan.database != _DEFAULT
    for deed in reading.deeds:
        code = deed.python
        if code is None:
            continue
        # With a single database, the default is always the right one.
        if code.forgets and (elsewhere or reading.has_several_databases):
            yield Finding(
                code="forgets_alias",
                severity=Severity.WARNING if elsewhere else Severity.INFO,
                step=deed.step,
                operation=deed.operation,
                message=f"{code.name} uses {', '.join(code.forgets)} without naming a "
                "database, so on any alias but the default one it uses the wrong database.",
                hint="Use .using(schema_editor.connection.alias) and "
                "transaction.atomic(using=...).",
            )
        if code.imports:
            yield Finding(
                code="imports_models",
                severity=Severity.WARNING,
                step=deed.step,
                operation=deed.operation,
                message=f"{code.name} uses {', '.join(code.imports)} from the current "
                "code, so it fails when a later release adds fields that the table does "
                "not have at this step.",
                hint='Use apps.get_model("app", "Model").',
            )
