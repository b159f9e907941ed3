"""Where does a run's process come from?

A launcher starts `manage.py migration_route run ID` and does nothing else: the run's
row is the truth, no launcher's status is.
"""

from __future__ import annotations

from typing import Protocol

from django.utils.module_loading import import_string

from migration_route.conf import route_settings
from migration_route.deciding.policy import Permit
from migration_route.errors import Misconfigured
from migration_route.ledger.records import RunRecord

_BUILT_IN = {
    "process": "migration_route.running.launchers.process.ProcessLauncher",
    "inline": "migration_route.running.launchers.inline.InlineLauncher",
}


class Launcher(Protocol):
    """Starts the process of a run."""

    def launch(self, permit: Permit, run: RunRecord) -> None:
        """Start it. A permit is asked for, so that nothing starts without one.

        Raises `LaunchFailed`.
        """


def launcher() -> Launcher:
    """Return the launcher of the settings. Raises `Misconfigured` when there is none."""
    name = route_settings().launcher
    try:
        found: Launcher = import_string(_BUILT_IN.get(name, name))()
    except ImportError as error:
        raise Misconfigured(f"The launcher {name!r} cannot be imported.") from error
    return found
