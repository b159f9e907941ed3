"""Start the process of a run that is permitted."""

from __future__ import annotations

import logging

from django.db import connections

from migration_route.conf import route_settings
from migration_route.deciding.policy import Permit
from migration_route.errors import (
    LaunchFailed,
    Misconfigured,
    NotInThisState,
    RouteError,
)
from migration_route.ledger import runs
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord, StepError
from migration_route.masking import masked
from migration_route.running.launchers import launcher
from migration_route.targets import find_target, refuse_tenants
from migration_route.vendors import vendor_of
from migration_route.vocabulary import RunState

logger = logging.getLogger("migration_route.operations")


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
    """Start the process of a run; it has failed where that is impossible.

    Raises `LaunchFailed`, whatever the launcher raised: a run that nothing will carry
    must not own its database.
    """
    try:
        launcher().launch(permit, run)
    except Exception as error:  # a launcher of the project raises what it likes
        failure = _as_launch_failed(error, run)
        change = runs.Change(
            outcome=failure.code,
            error=StepError(type="LaunchFailed", message=str(failure)),
        )
        unbegun = {RunState.QUEUED, RunState.WAITING}
        try:
            runs.move(run.id, to=RunState.FAILED, expected=unbegun, change=change)
        except NotInThisState:
            if find_run(run.id).outcome != failure.code:
                logger.warning("Run %s has started all the same.", run.id)
                return
        raise failure from error


def _as_launch_failed(error: Exception, run: RunRecord) -> LaunchFailed:
    if isinstance(error, LaunchFailed):
        return error
    if isinstance(error, RouteError):
        return LaunchFailed(error.message, hint=error.hint, **error.facts)
    logger.error("The launcher could not start run %s", run.id, exc_info=error)
    return LaunchFailed(
        f"{type(error).__name__}: {masked(str(error))} The launcher could not start the "
        "run.",
        hint="The server's log holds the whole error.",
    )
