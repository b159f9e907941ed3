"""Plans in a new process when this process has older code than the disk.

Only a new process has the code of the files. It takes seconds, so the last plan is cached
for the same request, files and database: a plan that was just reviewed is requested again
when it is applied.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import msgspec

from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.core import subprocesses
from migration_route.core.errors import BrokenMigrations, LaunchFailed, RouteError
from migration_route.core.redaction import redact
from migration_route.planning import sources
from migration_route.planning.graph import Applied, read_recorder
from migration_route.planning.phases import MigrationPlan
from migration_route.planning.plan import Details, Plan, PlanRequest

_TIMEOUT = 60
_LIFETIME = 60.0  # seconds: helpers that migrations import are in no digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _CachedPlan:
    key: tuple[tuple[object, ...], str, Applied]  # the request first
    plan: Plan
    details: Details | None
    until: float


_cached: _CachedPlan | None = None


def is_needed(migrations: MigrationPlan) -> bool:
    """Return whether a step of the plan differs between memory and disk."""
    return any(sources.is_stale(type(migration).__module__) for migration, _ in migrations)


def plan_in_new_process(request: PlanRequest, details: Details | None) -> Plan:
    """Return the plan as a new process reads it, or has just read it. A cached plan with
    details also answers a request without them.

    Raises `BrokenMigrations` when the code on disk cannot produce one, and `LaunchFailed`
    when the process cannot be started.
    """
    global _cached
    key = _request_key(request)
    cached = _cached  # read once: another thread may replace it
    if (
        cached is not None
        and cached.key == key
        and details in {None, cached.details}
        and time.monotonic() < cached.until
    ):
        return cached.plan
    plan = _plan_now(request, details)
    if _request_key(request) == key:  # else it may answer either of the two
        until = time.monotonic() + _LIFETIME
        _cached = _CachedPlan(key=key, plan=plan, details=details, until=until)
    return plan


def _request_key(request: PlanRequest) -> tuple[tuple[object, ...], str, Applied]:
    wanted = (request.database, request.targets, request.mode, request.phase)
    return wanted, sources.on_disk(), read_recorder(request.database)


def _plan_now(request: PlanRequest, details: Details | None) -> Plan:
    arguments = ["plan-json", "--database", request.database, "--mode", request.mode]
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
            f"The code on disk did not return a plan within {_TIMEOUT} seconds."
        ) from error
    except OSError as error:
        raise LaunchFailed(
            f"The process that plans with the code on disk could not be started: {error}"
        ) from error
    if done.returncode:
        raise _as_error(done.stderr.decode(errors="replace"))
    try:
        # The last line is the plan; the project may print before it on startup.
        return msgspec.json.decode(done.stdout.strip().rpartition(b"\n")[2], type=Plan)
    except msgspec.DecodeError as error:
        raise _as_error(done.stdout.decode(errors="replace")) from error


def _as_error(text: str) -> RouteError:
    error = redact(subprocesses.error_in(text)) or "The new process printed nothing."
    return BrokenMigrations(f"{error} The code on disk cannot be planned.")
