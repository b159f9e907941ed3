"""Start the process of a run that is permitted."""

from __future__ import annotations

from migration_route.deciding.policy import Permit
from migration_route.errors import LaunchFailed
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord, StepError
from migration_route.running.launchers import launcher
from migration_route.vocabulary import RunState


def launch(permit: Permit, run: RunRecord) -> None:
    """Start the process of a run; it has failed where that is impossible."""
    try:
        launcher().launch(permit, run)
    except LaunchFailed as error:
        change = runs.Change(
            outcome=error.code, error=StepError(type="LaunchFailed", message=str(error))
        )
        runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}, change=change)
        raise
