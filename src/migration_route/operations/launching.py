"""Start the process of a run that is permitted."""

from __future__ import annotations

from django.db import connections

from migration_route.conf import route_settings
from migration_route.deciding.policy import Permit
from migration_route.errors import LaunchFailed, Misconfigured
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord, StepError
from migration_route.running.launchers import launcher
from migration_route.targets import find_target, refuse_tenants
from migration_route.vendors import vendor_of
from migration_route.vocabulary import RunState


def refuse_what_cannot_run(database: str) -> None:
    """Raise `Misconfigured` where the process of a run could not do its work, or would
    pass a guard that cannot be read, and `TenantsNotSupported`."""
    if problems := route_settings().problems:
        # A guard that cannot be read must not be passed as if it were not there.
        raise Misconfigured(" ".join(problems))
    target = find_target(database)
    refuse_tenants(target.alias)
    for alias in {target.alias, route_settings().ledger_database}:
        if vendor_of(alias).is_private(connections[alias]):
            raise Misconfigured(
                f"The database {alias!r} lives in the memory of this process: the process "
                "of a run cannot see it.",
                hint="Use a file.",
            )


def launch(permit: Permit, run: RunRecord) -> None:
    """Start the process of a run; it has failed where that is impossible."""
    try:
        launcher().launch(permit, run)
    except LaunchFailed as error:
        change = runs.Change(
            outcome=error.code, error=StepError(type="LaunchFailed", message=str(error))
        )
        unbegun = {RunState.QUEUED, RunState.WAITING}
        runs.move(run.id, to=RunState.FAILED, expected=unbegun, change=change)
        raise
