"""What would happen, when this process holds older code than the disk?

Then a new process reads the plan: only its memory is that of the files. That takes
seconds, so the last one is kept for whoever asks the same of the same files and the same
database: a plan that has just been read is asked for again when it is applied.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import msgspec
from django.db.migrations import Migration

from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.core import subprocesses
from migration_route.core.errors import BrokenMigrations, LaunchFailed, RouteError
from migration_route.core.redaction import redact
from migration_route.planning import sources
from migration_route.planning.graph import Applied, read_recorder
from migration_route.planning.plan import Details, Plan, PlanRequest

_TIMEOUT = 60
_LIFETIME = 60.0  # seconds: helpers that the migrations import are in no digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A plan, and what it was made of."""

    question: tuple[PlanRequest, str, Applied]
    plan: Plan
    details: Details | None
    until: float


_kept: _Kept | None = None


def is_needed(migrations: list[tuple[Migration, bool]]) -> bool:
    """Tell whether a step of the plan differs between this memory and the disk."""
    return any(sources.is_stale(type(migration).__module__) for migration, _ in migrations)


def plan_in_new_process(request: PlanRequest, details: Details | None) -> Plan:
    """Return the plan as a process that begins now reads it, or has just read it; where
    no details are asked for, those that it has do no harm.

    Raises `BrokenMigrations` when the code on disk cannot read one.
    """
    global _kept
    question = _question(request)
    kept = _kept  # one look: another thread may put its own here
    if (
        kept is not None
        and kept.question == question
        and details in {None, kept.details}
        and time.monotonic() < kept.until
    ):
        return kept.plan
    plan = _asked(request, details)
    if _question(request) == question:  # else nobody knows which of the two it answers
        until = time.monotonic() + _LIFETIME
        _kept = _Kept(question=question, plan=plan, details=details, until=until)
    return plan


def _question(request: PlanRequest) -> tuple[PlanRequest, str, Applied]:
    return request, sources.on_disk(), read_recorder(request.database)


def _asked(request: PlanRequest, details: Details | None) -> Plan:
    arguments = ["plan-value", "--database", request.database, "--mode", request.mode]
    if details is not None:
        arguments += ["--details", msgspec.json.encode(details).decode()]
    arguments += ["--phase", request.phase] if request.phase else []
    try:
        done = subprocess.run(  # noqa: S603 - the project's command, checked arguments
            [*command_line(route_settings().command), *arguments, *request.targets],
            env=subprocesses.environment(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenMigrations(
            f"The code on disk did not give a plan within {_TIMEOUT} seconds."
        ) from error
    except OSError as error:
        raise LaunchFailed(
            f"The process that reads the code on disk cannot be started: {error}"
        ) from error
    if done.returncode:
        raise _as_error(done.stderr.decode(errors="replace"))
    try:
        # What a project prints while it starts stands before the last line.
        return msgspec.json.decode(done.stdout.strip().rpartition(b"\n")[2], type=Plan)
    except msgspec.DecodeError as error:
        raise _as_error(done.stdout.decode(errors="replace")) from error


def _as_error(text: str) -> RouteError:
    error = redact(subprocesses.error_in(text)) or "The new process printed nothing."
    return BrokenMigrations(f"{error} The code on disk cannot be planned.")
