"""No process at all: `manage.py migration_route work`, elsewhere, takes what is queued."""

from __future__ import annotations

from migration_route.deciding.policy import Permit
from migration_route.ledger.records import RunRecord
from migration_route.running.launchers.process import require_fitting


class WorkLauncher:
    """Leaves the run to whoever comes for it."""

    is_patient = True

    def launch(self, permit: Permit, run: RunRecord) -> None:
        """Start nothing."""
        require_fitting(permit, run)
