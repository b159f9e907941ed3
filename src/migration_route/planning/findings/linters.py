"""What do other linters say, where they are installed?

Each engine is a module with `results(plan, migrations)`. What the route's own rules look at
as well is left to them: they know the states of the project and what the plan makes.

Which remarks of other linters does the route make itself, and which are left out?

What does an engine say? A frozen value; no Django here.

What does django-safe-migrations say about the steps of a plan? (extra `lint`)

What does squawk say about the SQL of a plan for PostgreSQL? (extra `squawk`)

A process of its own, bounded in time; it reads the text of the statements, no more.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec
from django.db import connections
from django.db.migrations import Migration

from migration_route.conf import route_settings
from migration_route.core.enums import Direction, Mode, Severity
from migration_route.planning import graph as graphs
from migration_route.planning.plan import Finding, Plan, Step

SAID_BY_OURS = {
    "safe_migrations.SM001": "adds_required_column",
    "safe_migrations.SM002": "drops_column",
    "safe_migrations.SM003": "drops_table",
    "safe_migrations.SM004": "changes_type",
    "safe_migrations.SM005": "adds_reference",
    "safe_migrations.SM006": "renames_column",
    "safe_migrations.SM007": "one_way",
    "safe_migrations.SM009": "adds_unique",
    "safe_migrations.SM010": "index_blocks_writes",
    "safe_migrations.SM011": "adds_unique",
    "safe_migrations.SM013": "narrows_column",
    "safe_migrations.SM014": "renames_table",
    "safe_migrations.SM016": "one_way",
    "safe_migrations.SM017": "adds_check",
    "safe_migrations.SM020": "forbids_null",
    "safe_migrations.SM021": "adds_unique",
    "safe_migrations.SM037": "imports_models",
    "safe_migrations.SM038": "mixes_data_and_schema",
    "safe_migrations.SM041": "rewrites_table",
    "safe_migrations.SM047": "validates_under_lock",
    "safe_migrations.SM048": "drops_rows",
    "safe_migrations.SM056": "adds_check",
    "squawk.adding-foreign-key-constraint": "locks_parent",
    "squawk.adding-not-nullable-field": "forbids_null",
    "squawk.adding-required-field": "adds_required_column",
    "squawk.ban-drop-column": "drops_column",
    "squawk.ban-drop-table": "drops_table",
    "squawk.ban-truncate-cascade": "drops_rows",
    "squawk.changing-column-type": "changes_type",
    "squawk.constraint-missing-not-valid": "validates_under_lock",
    "squawk.disallowed-unique-constraint": "adds_unique",
    "squawk.renaming-column": "renames_column",
    "squawk.renaming-table": "renames_table",
    "squawk.require-concurrent-index-creation": "index_blocks_writes",
}
"""A rule to the finding that covers its ground. Where the finding is not made, the route
has looked and seen no harm: the table is new, or the column was NOT NULL before."""

LEFT_OUT = frozenset(
    {
        "safe_migrations.SM008",  # "a data migration may be slow": said of each
        "safe_migrations.SM015",  # unique_together is not deprecated
        "safe_migrations.SM019",  # names that Django quotes
        "safe_migrations.SM023",  # a new table harms nobody
        "safe_migrations.SM027",  # the route refuses a plan with several leaves
        "safe_migrations.SM028",  # taste: the types of columns
        "safe_migrations.SM029",  # allowing NULL harms nobody
        "safe_migrations.SM030",  # DROP INDEX is over in an instant
        "safe_migrations.SM031",  # taste
        "safe_migrations.SM032",  # taste
        "safe_migrations.SM033",  # wrong since PostgreSQL 11: a default rewrites nothing
        "safe_migrations.SM034",  # taste, and Django has used IDENTITY since 4.1
        "safe_migrations.SM035",  # the worker has a lock_timeout of its own
        "safe_migrations.SM036",  # IF NOT EXISTS hides a table that is not the right one
        "safe_migrations.SM054",  # each of the operations is told by itself
        "squawk.ban-drop-constraint",  # loosens
        "squawk.ban-drop-default",  # what Django does behind each AddField
        "squawk.ban-drop-not-null",  # loosens
        "squawk.prefer-bigint-over-int",  # taste
        "squawk.prefer-bigint-over-smallint",  # taste
        "squawk.prefer-identity",  # taste
        "squawk.prefer-robust-stmts",  # see SM036
        "squawk.prefer-text-field",  # taste
        "squawk.prefer-timestamptz",  # taste
        "squawk.require-concurrent-index-deletion",  # see SM030
        "squawk.require-lock-timeout",  # the worker has one of its own
        "squawk.require-statement-timeout",  # would kill a long backfill
    }
)
"""Rules that are wrong here, or said of nearly everything: seen on published projects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One remark of another linter."""

    code: str  # "engine.rule"
    step: str  # "app.name"
    operation: int | None
    message: str
    hint: str


logger = logging.getLogger("migration_route.planning")

BUDGET = 0.5
"""Seconds: it builds the state of the project anew for many an operation."""


def safe_migrations_results(
    plan: Plan, migrations: list[tuple[Migration, bool]]
) -> Iterator[Result]:
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


TIMEOUT = 10
"""Seconds. Fifty migrations take it a few hundredths of one."""


class _Report(msgspec.Struct, frozen=True):
    """What squawk says about a place in its input; lines are counted from 0."""

    rule_name: str
    line: int
    message: str
    help: str | None = None


def squawk_results(
    plan: Plan, migrations: list[tuple[Migration, bool]]
) -> Iterator[Result]:
    """Go through its reports; none where it is not installed, or for another vendor.

    Raises `subprocess.TimeoutExpired`, and `msgspec.DecodeError` for an answer that is no
    report.
    """
    del migrations
    program = _program()
    if program is None or plan.vendor != "postgresql":
        return
    version = getattr(connections[plan.database], "pg_version", 0) // 10_000
    for atomic in (True, False):
        steps = [step for step in plan.steps if step.atomic is atomic]
        lines, places = _text(steps)
        if not lines:
            continue
        command = [program, "--reporter", "json"]
        command += ["--pg-version", str(version)] if version else []
        command += ["--assume-in-transaction"] if atomic else []
        done = subprocess.run(  # noqa: S603 - found on our own path, reads its stdin
            command,
            input="\n".join(lines).encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        for report in msgspec.json.decode(done.stdout or b"[]", type=list[_Report]):
            step, operation = places[min(report.line, len(places) - 1)]
            yield Result(
                code=f"squawk.{report.rule_name}",
                step=step,
                operation=operation,
                message=report.message,
                hint=report.help or "",
            )


def _program() -> str | None:
    """Return where squawk is: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "squawk"
    return str(beside) if beside.exists() else shutil.which("squawk")


def _text(steps: list[Step]) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the statements line by line, and for each line its step and operation."""
    lines: list[str] = []
    places: list[tuple[str, int]] = []
    for step in steps:
        for position, operation in enumerate(step.operations):
            for statement in operation.sql or ():
                of_it = f"{statement.rstrip().rstrip(';')};".splitlines()
                lines += of_it
                places += [(step.label, position)] * len(of_it)
    return lines, places


_ENGINES = {"django-safe-migrations": safe_migrations_results, "squawk": squawk_results}


def findings(plan: Plan, migrations: list[tuple[Migration, bool]]) -> Iterator[Finding]:
    """Go through what the engines say that the route does not say itself.

    An engine that is not installed, or fails, says nothing; the log names the failure.
    """
    if plan.direction is not Direction.FORWARDS or plan.mode is Mode.FAKE:
        return
    if not route_settings().engines:
        return
    for name, results_of in _ENGINES.items():
        try:
            results = list(results_of(plan, migrations))
        except Exception:
            # Somebody else's code: a plan without its remarks is still a plan.
            logger.warning("%s has failed", name, exc_info=True)
            continue
        for result in results:
            if result.code not in SAID_BY_OURS and result.code not in LEFT_OUT:
                yield _finding(result)


def _finding(result: Result) -> Finding:
    return Finding(
        code=result.code,
        severity=Severity.INFO,
        step=result.step,
        operation=result.operation,
        message=result.message,
        hint=result.hint,
    )
