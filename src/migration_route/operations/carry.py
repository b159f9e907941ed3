"""Carry out a run that is queued, in this process: what a launcher starts."""

from __future__ import annotations

from migration_route.errors import ApprovalRequired, NotInThisState
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord
from migration_route.operations.telling import telling_here
from migration_route.reporting.tracing import traced
from migration_route.running.launchers.words import forget_words
from migration_route.running.supervision.supervisor import supervise
from migration_route.vocabulary import RunState


def carry(run: str) -> RunRecord:
    """Carry it out and return it as it ended.

    Raises `NotInThisState` when it is not queued, `ApprovalRequired` when it waits for
    that, `UnknownRun` when there is none.
    """
    try:
        with telling_here(), traced(run):
            ended = supervise(run)
    except NotInThisState as error:
        forget_words(run)  # how it ended is on record already
        if find_run(run).state is RunState.AWAITING_APPROVAL:
            raise ApprovalRequired(
                f"Run {run} waits for approval.",
                hint="It is carried out when enough people have approved it.",
                run=run,
            ) from error
        raise
    forget_words(run)
    return ended
