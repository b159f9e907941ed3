"""Who cancelled a run and why, read from the entries of the ledger.

A cancelled run shows this in the place of what its worker met when it was stopped: a
`KeyboardInterrupt`, or the error of the cancelled statement in the words of the driver.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from migration_route.ledger.evidence import StepError, facts_of
from migration_route.models import Entry, Run
from migration_route.vocabulary import Action, RunState

CANCELLED = "Cancelled"
"""The type of the error of a run, and of a step, that was cancelled."""

_STATES = frozenset({RunState.CANCELLING, RunState.CANCELLED, RunState.PARTIAL})
_ACTIONS = (Action.CANCEL_REQUESTED, Action.FORCE_REQUESTED)
# PostgreSQL: query_canceled (errcodes-appendix). MySQL: ER_QUERY_INTERRUPTED, 1317.
_SQLSTATES = frozenset({"57014", "70100"})
_WORDS = (
    "canceling statement due to user request",
    "terminating connection due to administrator command",
    "Query execution was interrupted",
    "interrupted",  # sqlite3_interrupt()
)


def cancellations_of(rows: Collection[Run]) -> dict[str, StepError]:
    """Return who asked for the end of runs, by run: one query for those that may have been
    cancelled, none where there are none."""
    about = [row.pk for row in rows if row.state in _STATES]
    if not about:
        return {}
    database = next(iter(rows))._state.db
    entries = Entry.objects.using(database).filter(run__in=about, action__in=_ACTIONS)
    found: dict[str, StepError] = {}
    for entry in entries.order_by("sequence"):
        found.setdefault(entry.run, _error_of(entry))
    return found


def _error_of(entry: Entry) -> StepError:
    who = entry.actor_name or entry.actor_kind
    by_force = " by force" if entry.action == Action.FORCE_REQUESTED else ""
    reason = str(facts_of(entry.facts).get("reason") or "")
    message = f"Cancelled{by_force} by {who} ({entry.actor_kind}) at {entry.at}"
    return StepError(
        type=CANCELLED, message=f"{message}: {reason}" if reason else f"{message}."
    )


def as_cancelled(error: StepError | None, cancelled: StepError | None) -> StepError | None:
    """Return the error of a step or run as it is shown: one that only says that the worker
    was stopped says who stopped it. An error of the migration's own stays."""
    if error is None or cancelled is None or not is_interruption(error):
        return error
    return replace(cancelled, operation=error.operation)


def is_interruption(error: StepError) -> bool:
    """Tell whether an error is what a cancelled statement or worker raises."""
    if error.type == "KeyboardInterrupt" or error.sqlstate in _SQLSTATES:
        return True
    return error.type.endswith("OperationalError") and any(
        words in error.message for words in _WORDS
    )
