"""The cancellation that a run shows instead of the error of its interrupted worker.

That error is a `KeyboardInterrupt`, or the driver's error for the cancelled statement. The
entries of the ledger say who cancelled the run, and why.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from migration_route.core.enums import Action, RunState
from migration_route.ledger.evidence import StepError, parse_facts
from migration_route.models import Entry, Run

CANCELLED = "Cancelled"
"""The error type of a cancelled run or step."""

_STATES = frozenset({RunState.CANCELLING, RunState.CANCELLED, RunState.PARTIAL})
_ACTIONS = (Action.CANCEL_REQUESTED, Action.FORCE_REQUESTED)
# PostgreSQL: query_canceled (errcodes-appendix). MySQL: ER_QUERY_INTERRUPTED, 1317.
_SQLSTATES = frozenset({"57014", "70100"})
_MESSAGES = (
    "canceling statement due to user request",
    "terminating connection due to administrator command",
    "Query execution was interrupted",
    "interrupted",  # sqlite3_interrupt()
)


def cancellations_by_run(rows: Collection[Run]) -> dict[str, StepError]:
    """Return the cancellation of each run, by run id, with who requested it.

    One query for the runs that may have been cancelled; no query if there are none.
    """
    ids = [row.pk for row in rows if row.state in _STATES]
    if not ids:
        return {}
    database = next(iter(rows))._state.db
    entries = Entry.objects.using(database).filter(run__in=ids, action__in=_ACTIONS)
    cancellations: dict[str, StepError] = {}
    for entry in entries.order_by("sequence"):
        cancellations.setdefault(entry.run, _error_of(entry))
    return cancellations


def _error_of(entry: Entry) -> StepError:
    who = entry.actor_name or entry.actor_kind
    by_force = " by force" if entry.action == Action.FORCE_REQUESTED else ""
    reason = str(parse_facts(entry.facts).get("reason") or "")
    message = f"Cancelled{by_force} by {who} ({entry.actor_kind}) at {entry.at}"
    return StepError(
        type=CANCELLED, message=f"{message}: {reason}" if reason else f"{message}."
    )


def as_cancelled(error: StepError | None, cancelled: StepError | None) -> StepError | None:
    """Return the error to show for a step or run.

    An error that only says that the worker was interrupted is replaced by the cancellation.
    An error of the migration itself stays.
    """
    if error is None or cancelled is None or not is_interruption(error):
        return error
    return replace(cancelled, operation=error.operation)


def is_interruption(error: StepError) -> bool:
    """Whether a cancelled statement or worker raises this error."""
    if error.type == "KeyboardInterrupt" or error.sqlstate in _SQLSTATES:
        return True
    return error.type.endswith("OperationalError") and any(
        message in error.message for message in _MESSAGES
    )
