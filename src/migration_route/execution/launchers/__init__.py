"""Where does a run's process come from?

A launcher starts `manage.py migration_route run ID` and does nothing else: the run's
row is the truth, no launcher's status is.

No process at all: `manage.py migration_route work`, elsewhere, takes what is queued.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from django.utils.module_loading import import_string

from migration_route.conf import route_settings
from migration_route.core.errors import Misconfigured, RouteError
from migration_route.execution.launchers.process import require_same_plan
from migration_route.ledger.records import RunRecord
from migration_route.policy.decision import Allowed

_BUILT_IN = {
    "process": "migration_route.execution.launchers.process.ProcessLauncher",
    "inline": "migration_route.execution.launchers.process.InlineLauncher",
    "work": "migration_route.execution.launchers.WorkLauncher",
    "tasks": "migration_route.execution.launchers.task_queue.TaskLauncher",
}


class Launcher(Protocol):
    """Starts the process of a run.

    It may have more: `is_patient = True` where a run waits until a process takes it,
    `can_wait = False` where no process can wait for an opening, `start_again(run)` to
    start a process for a run whose own is gone before it began, `problem()` that returns
    why nothing could be started, and `advice()` that returns a warning for the checks.
    """

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Start it. A permit is asked for, so that nothing starts without one.

        Raises `LaunchFailed`.
        """


def launcher() -> Launcher:
    """Return the launcher of the settings. Raises `Misconfigured` when there is none, or
    one that can start nothing: a run would own its database, and nothing would carry it.
    """
    name = route_settings().launcher
    try:
        found: Launcher = import_string(_BUILT_IN.get(name, name))()
    except RouteError:
        raise
    except Exception as error:  # a module of the project, while it is imported
        raise Misconfigured(
            f"The launcher {name!r} cannot be made: {type(error).__name__}: {error}",
            hint="LAUNCHER names a class that is made without arguments.",
        ) from error
    if not callable(getattr(found, "launch", None)):
        raise Misconfigured(
            f"The launcher {name!r} has no method 'launch'.",
            hint="LAUNCHER names a class with 'launch(permit, run)'.",
        )
    find_problem = getattr(found, "problem", None)
    if find_problem is not None and (problem := find_problem()):
        raise Misconfigured(problem)
    return found


def is_pull_based() -> bool:
    """Tell whether a queued run may lie until somebody comes for it."""
    return bool(getattr(_found(), "is_patient", False))


def supports_waiting() -> bool:
    """Tell whether a process of a run may wait for its opening."""
    return bool(getattr(launcher(), "can_wait", True))


def relauncher() -> Callable[[RunRecord], None] | None:
    """Return what starts a process for a run whose own is gone; None where nothing
    does, because somebody comes for it."""
    found: Callable[[RunRecord], None] | None = getattr(_found(), "start_again", None)
    return found


def _found() -> Launcher | None:
    """Return the launcher for whoever only looks: there may be none."""
    with suppress(Misconfigured):
        return launcher()
    return None


class WorkLauncher:
    """Leaves the run to whoever comes for it."""

    is_patient = True

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Start nothing."""
        require_same_plan(permit, run)
