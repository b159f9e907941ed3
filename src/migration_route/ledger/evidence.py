"""The evidence about a stopped step: its error, and the state of its operations.

A cancelled run shows who cancelled it and why, read from the entries of the ledger,
instead of the error that its worker got: a `KeyboardInterrupt`, or the driver's error for
the cancelled statement.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from migration_route.core.enums import Action, EffectState, RunState
from migration_route.core.redaction import clipped, redact
from migration_route.models import Entry, Run

_LONGEST_MESSAGE = 6000
_CLIPPED_TO = 4000  # leaves room for the note, so that clipping is idempotent


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError:
    """The error that stopped a step or a run."""

    type: str
    message: str
    operation: int | None = None  # counted from 0
    sqlstate: str | None = None

    def __post_init__(self) -> None:
        # Whatever the source of the error, the record has no secrets and is bounded.
        is_long = len(self.message) > _LONGEST_MESSAGE
        text = clipped(self.message, _CLIPPED_TO) if is_long else redact(self.message)
        object.__setattr__(self, "message", text)

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "message": self.message,
            "operation": self.operation,
            "sqlstate": self.sqlstate,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedOperations:
    """The operations that other packages add to a migration of a run.

    They have no position in the migration's list. Receivers of `pre_migrate` add them:
    django.contrib.contenttypes adds one after each `RenameModel`.
    """

    places: tuple[int, ...] = ()  # for each: how many of the source's own precede it
    begun: int | None = None  # its number, if the last operation that started is added
    repeatable: bool = False  # that operation can run again, whatever its progress
    done: int = 0  # executed by the runs that this one resumes
    is_matched: bool = True  # False: the list is not the source's with additions

    def done_when(self, begun: int | None) -> int:
        """Return how many added operations have run, given the last operation to start.

        `begun` is the number, in the order of execution, of the last of the source's own
        operations that started.
        """
        if self.begun is not None:
            return max(self.done, self.begun)
        if begun is None:
            return self.done
        return max(self.done, sum(place <= begun for place in self.places))

    def to_dict(self) -> dict[str, Any]:
        return {
            "places": list(self.places),
            "begun": self.begun,
            "repeatable": self.repeatable,
            "done": self.done,
            "is_matched": self.is_matched,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> AddedOperations:
        return cls(**{**stored, "places": tuple(stored["places"])})


NONE_ADDED = AddedOperations()
"""Only the operations of the migration's source run, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEvidence:
    """The state of one operation of a stopped step."""

    position: int  # in the migration's list, from 0; past the end: the end of the step
    description: str
    state: EffectState

    def to_dict(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "description": self.description,
            "state": self.state,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> OperationEvidence:
        return cls(**{**stored, "state": EffectState(stored["state"])})


def parse_facts(text: str) -> dict[str, Any]:
    """Parse the facts of a row; text that is not a JSON object becomes `unreadable`."""
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    return facts if isinstance(facts, dict) else {"unreadable": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedOperations:
    """The operations that a resumed run has executed of its step."""

    count: int  # operations of the migration's source, in the order of execution
    added: AddedOperations
    evidence: tuple[OperationEvidence, ...]


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
