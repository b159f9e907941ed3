"""Runs the linters that are installed, and adds what they report to the findings.

django-safe-migrations reads the operations (extra `lint`); squawk reads the SQL of a plan
for PostgreSQL in a separate process with a timeout (extra `squawk`). A rule that this
package checks itself is left to its own check, which knows the project states and what the
plan creates.
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

from migration_route.conf import route_settings
from migration_route.core.enums import Direction, Mode, Severity
from migration_route.planning import graph as graphs
from migration_route.planning.phases import MigrationPlan
from migration_route.planning.plan import Finding, Plan, Step

COVERED_RULES = {
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
"""Maps each linter rule to the finding that covers it. Where the finding is absent, this
package has checked and found no risk: the table is new, or the column was NOT NULL before.
"""

IGNORED_RULES = frozenset(
    {
        "safe_migrations.SM008",  # "a data migration may be slow": matches every one
        "safe_migrations.SM015",  # unique_together is not deprecated
        "safe_migrations.SM019",  # names that Django quotes
        "safe_migrations.SM023",  # a new table is safe
        "safe_migrations.SM027",  # a plan with several leaf nodes is refused
        "safe_migrations.SM028",  # style: column types
        "safe_migrations.SM029",  # allowing NULL is safe
        "safe_migrations.SM030",  # DROP INDEX is instant
        "safe_migrations.SM031",  # style
        "safe_migrations.SM032",  # style
        "safe_migrations.SM033",  # wrong since PostgreSQL 11: a default does not rewrite
        "safe_migrations.SM034",  # style, and Django has used IDENTITY since 4.1
        "safe_migrations.SM035",  # the worker sets its own lock_timeout
        "safe_migrations.SM036",  # IF NOT EXISTS hides a wrong table
        "safe_migrations.SM054",  # each operation has its own findings
        "squawk.ban-drop-constraint",  # loosens
        "squawk.ban-drop-default",  # Django does this after each AddField
        "squawk.ban-drop-not-null",  # loosens
        "squawk.prefer-bigint-over-int",  # style
        "squawk.prefer-bigint-over-smallint",  # style
        "squawk.prefer-identity",  # style
        "squawk.prefer-robust-stmts",  # see SM036
        "squawk.prefer-text-field",  # style
        "squawk.prefer-timestamptz",  # style
        "squawk.require-concurrent-index-deletion",  # see SM030
        "squawk.require-lock-timeout",  # the worker sets its own
        "squawk.require-statement-timeout",  # would kill a long backfill
    }
)
"""Rules that are wrong here, or that match nearly everything: checked against published
projects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinterIssue:
    code: str  # "engine.rule"
    step: str  # "app.name"
    operation: int | None
    message: str
    hint: str


logger = logging.getLogger("migration_route.planning")

BUDGET = 0.5
"""Seconds: the linter rebuilds the project state for many operations."""

MOST_OPERATIONS = 200
"""Of one migration: for each of them, django-safe-migrations parses the whole file."""


def safe_migrations_issues(plan: Plan, migrations: MigrationPlan) -> Iterator[LinterIssue]:
    """Yield the issues of django-safe-migrations; none where it is not installed."""
    if not migrations or find_spec("django_safe_migrations") is None:
        return
    from django_safe_migrations.analyzer import MigrationAnalyzer

    loader = graphs.read_graph(plan.database).loader
    # Its own settings and suppressions apply, as on its command line.
    analyzer = MigrationAnalyzer(db_vendor=plan.vendor)
    deadline = time.monotonic() + BUDGET
    for migration, _ in migrations:
        if time.monotonic() > deadline:
            logger.info("django-safe-migrations ran out of time before %s", migration)
            return
        if len(migration.operations) > MOST_OPERATIONS:
            logger.info("django-safe-migrations does not read %s: it is long", migration)
            continue
        for issue in analyzer.analyze_migration(migration, loader=loader):
            yield LinterIssue(
                code=f"safe_migrations.{issue.rule_id}",
                step=f"{migration.app_label}.{migration.name}",
                operation=issue.operation_index,
                message=" ".join(issue.message.split()),
                hint=_first_lines(issue.suggestion or ""),
            )


def _first_lines(suggestion: str) -> str:
    """Return the first paragraph of a suggestion, without the code examples below it."""
    return " ".join(suggestion.strip().partition("\n\n")[0].split())


TIMEOUT = 10
"""Seconds. Squawk needs a few hundredths of a second for fifty migrations."""


class _Report(msgspec.Struct, frozen=True):
    """One squawk report about its input; lines are counted from 0."""

    rule_name: str
    line: int
    message: str
    help: str | None = None


def squawk_issues(plan: Plan, migrations: MigrationPlan) -> Iterator[LinterIssue]:
    """Yield the issues of squawk; none where it is not installed, or for another vendor.

    Raises `subprocess.TimeoutExpired`, and `msgspec.DecodeError` for output that is not a
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
        done = subprocess.run(  # noqa: S603 - found on PATH, reads stdin
            command,
            input="\n".join(lines).encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        for report in msgspec.json.decode(done.stdout or b"[]", type=list[_Report]):
            step, operation = places[min(report.line, len(places) - 1)]
            yield LinterIssue(
                code=f"squawk.{report.rule_name}",
                step=step,
                operation=operation,
                message=report.message,
                hint=report.help or "",
            )


def _program() -> str | None:
    """Return the path of squawk: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "squawk"
    return str(beside) if beside.exists() else shutil.which("squawk")


def _text(steps: list[Step]) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the statements line by line, and the step and operation of each line."""
    lines: list[str] = []
    places: list[tuple[str, int]] = []
    for step in steps:
        for position, operation in enumerate(step.operations):
            for statement in operation.sql or ():
                added = f"{statement.rstrip().rstrip(';')};".splitlines()
                lines += added
                places += [(step.label, position)] * len(added)
    return lines, places


_ENGINES = {"django-safe-migrations": safe_migrations_issues, "squawk": squawk_issues}


def findings(plan: Plan, migrations: MigrationPlan) -> Iterator[Finding]:
    """Yield the findings of the linters that this package does not make itself.

    A linter that is not installed, or fails, adds nothing; the log names the failure.
    """
    if plan.direction is not Direction.FORWARDS or plan.mode is Mode.FAKE:
        return
    if not route_settings().linters:
        return
    for name, results_of in _ENGINES.items():
        try:
            results = list(results_of(plan, migrations))
        except Exception:
            # Third-party code: the plan is valid without its findings.
            logger.warning("The linter %s failed", name, exc_info=True)
            continue
        for result in results:
            if result.code not in COVERED_RULES and result.code not in IGNORED_RULES:
                yield _finding(result)


def _finding(result: LinterIssue) -> Finding:
    return Finding(
        code=result.code,
        severity=Severity.INFO,
        step=result.step,
        operation=result.operation,
        message=result.message,
        hint=result.hint,
    )
