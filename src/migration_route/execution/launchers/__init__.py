"""The launchers, which start the process of a run.

A launcher starts `manage.py migration_route run ID` and does nothing else: the row of the
run is the truth, not the status of a launcher. The launcher "work" starts no process:
`manage.py migration_route worker`, on any host, takes queued runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from django.utils.module_loading import import_string

from migration_route.conf import route_settings
from migration_route.core.enums import RunState
from migration_route.core.errors import (
    InvalidState,
    LaunchFailed,
    Misconfigured,
    RouteError,
)
from migration_route.core.redaction import redact
from migration_route.execution.launchers.process import require_same_plan
from migration_route.ledger import runs
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.step_evidence import StepError
from migration_route.policy.decision import Allowed

logger = logging.getLogger("migration_route.execution")

_BUILT_IN = {
    "process": "migration_route.execution.launchers.process.ProcessLauncher",
    "inline": "migration_route.execution.launchers.process.InlineLauncher",
    "worker": "migration_route.execution.launchers.WorkerLauncher",
    "tasks": "migration_route.execution.launchers.task_queue.TaskLauncher",
}


class Launcher(Protocol):
    """Starts the process of a run.

    Optional members: `is_patient = True` if a run waits until a process takes it, `can_wait
    = False` if no process can wait for a scheduled start, `start_again(run)` to start a
    process for a run whose own died before it started, `problem()` that returns why nothing
    can be started, and `advice()` that returns a warning for the system checks.
    """

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Start the process. The permit is a parameter so that nothing starts without one.

        Raises `LaunchFailed`.
        """


def get_launcher() -> Launcher:
    """Return the launcher of the settings. Raises `Misconfigured` when there is none, or
    one that can start nothing: a run would own its database and never be executed."""
    name = route_settings().launcher
    try:
        found: Launcher = import_string(_BUILT_IN.get(name, name))()
    except RouteError:
        raise
    except Exception as error:  # the import of a project's module may raise anything
        raise Misconfigured(
            f"Cannot create the launcher {name!r}: {type(error).__name__}: {error}",
            hint="Set LAUNCHER to a class that can be created without arguments.",
        ) from error
    if not callable(getattr(found, "launch", None)):
        raise Misconfigured(
            f"The launcher {name!r} has no method 'launch'.",
            hint="Set LAUNCHER to a class with the method 'launch(permit, run)'.",
        )
    find_problem = getattr(found, "problem", None)
    if find_problem is not None and (problem := find_problem()):
        raise Misconfigured(problem)
    return found


def launch(permit: Allowed, run: RunRecord) -> None:
    """Start the process of a run; if that is impossible, the run fails.

    Raises `LaunchFailed`, whatever the launcher raised: a run that no process will execute
    must not own its database.
    """
    try:
        get_launcher().launch(permit, run)
    except Exception as error:  # a launcher of the project may raise anything
        failure = _as_launch_failed(error, run)
        try:
            fail_unstarted(run.id, failure)
        except InvalidState:
            if find_run(run.id).outcome != failure.code:
                logger.warning("Run %s has started despite the launcher's error.", run.id)
                return
        raise failure from error


def fail_unstarted(run: str, error: LaunchFailed) -> None:
    """End a run that no process will execute. Raises `InvalidState` if one has started it,
    or it was cancelled."""
    why = StepError(type="LaunchFailed", message=str(error))
    not_started = {RunState.QUEUED, RunState.WAITING}
    change = runs.Change(outcome=error.code, error=why)
    runs.move(run, to=RunState.FAILED, expected=not_started, change=change)


def _as_launch_failed(error: Exception, run: RunRecord) -> LaunchFailed:
    if isinstance(error, LaunchFailed):
        return error
    if isinstance(error, RouteError):
        return LaunchFailed(error.message, hint=error.hint, **error.facts)
    logger.error("The launcher failed to start run %s", run.id, exc_info=error)
    return LaunchFailed(
        "The launcher failed to start the run. "
        f"{type(error).__name__}: {redact(str(error))}",
        hint="See the server log for the full error.",
    )


def is_pull_based() -> bool:
    """Return whether a queued run may wait until a worker takes it."""
    return bool(getattr(_launcher_or_none(), "is_patient", False))


def supports_waiting() -> bool:
    """Return whether the process of a run may wait for a scheduled start."""
    return bool(getattr(get_launcher(), "can_wait", True))


def relauncher() -> Callable[[RunRecord], None] | None:
    """Return the function that starts a process for a run whose own has died; None if
    workers take runs by themselves."""
    found: Callable[[RunRecord], None] | None = getattr(
        _launcher_or_none(), "start_again", None
    )
    return found


def _launcher_or_none() -> Launcher | None:
    with suppress(Misconfigured):
        return get_launcher()
    return None


class WorkerLauncher:
    """Leaves the run to `manage.py migration_route worker`."""

    is_patient = True

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Start nothing."""
        require_same_plan(permit, run)
