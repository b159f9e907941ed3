"""What does squawk say about the SQL of a plan for PostgreSQL? (extra `squawk`)

A process of its own, bounded in time; it reads the text of the statements, no more.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from django.db import connections
from django.db.migrations import Migration

from migration_route.planning.engines.values import Result
from migration_route.planning.plan import Plan, Step

TIMEOUT = 10
"""Seconds. Fifty migrations take it a few hundredths of one."""


class _Report(msgspec.Struct, frozen=True):
    """What squawk says about a place in its input; lines are counted from 0."""

    rule_name: str
    line: int
    message: str
    help: str | None = None


def results(plan: Plan, migrations: list[tuple[Migration, bool]]) -> Iterator[Result]:
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
