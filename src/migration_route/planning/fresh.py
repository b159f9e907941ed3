"""What would happen, when this process holds older code than the disk?

Then a new process reads the plan: only its memory is that of the files.
"""

from __future__ import annotations

import subprocess

import msgspec
from django.db.migrations import Migration

from migration_route import processes
from migration_route.errors import BrokenMigrations, RouteError
from migration_route.planning import sources
from migration_route.planning.plan import Plan, PlanRequest

_TIMEOUT = 60


def is_needed(migrations: list[tuple[Migration, bool]]) -> bool:
    """Tell whether a step of the plan differs between this memory and the disk."""
    return any(sources.is_stale(type(migration).__module__) for migration, _ in migrations)


def plan_in_new_process(request: PlanRequest, *, detailed: bool) -> Plan:
    """Return the plan as a process that begins now reads it.

    Raises `BrokenMigrations` when the code on disk cannot read one.
    """
    arguments = ["plan-value", "--database", request.database, "--mode", request.mode]
    arguments += ["--details"] if detailed else []
    try:
        done = subprocess.run(  # noqa: S603 - our own command, checked arguments
            [*processes.command_line(), *arguments, *request.targets],
            env=processes.environment(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenMigrations(
            f"The code on disk did not give a plan within {_TIMEOUT} seconds."
        ) from error
    if done.returncode:
        raise _as_error(done.stderr.decode(errors="replace"))
    try:
        # What a project prints while it starts stands before the last line.
        return msgspec.json.decode(done.stdout.strip().rpartition(b"\n")[2], type=Plan)
    except msgspec.DecodeError as error:
        raise _as_error(done.stdout.decode(errors="replace")) from error


def _as_error(text: str) -> RouteError:
    last = text.strip().splitlines()[-1:] or ["it said nothing"]
    return BrokenMigrations(f"The code on disk cannot be planned: {last[0]}")
