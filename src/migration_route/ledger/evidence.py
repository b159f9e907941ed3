"""What stopped a step, and what is known of its operations?

Who cancelled a run and why, read from the entries of the ledger.

A cancelled run shows this in the place of what its worker met when it was stopped: a
`KeyboardInterrupt`, or the error of the cancelled statement in the words of the driver.
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
_CLIPPED_TO = 4000  # with room for the note, so that what is read again stays as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError:
    """What stopped a step, or a run."""

    type: str
    message: str
    operation: int | None = None  # counted from 0
    sqlstate: str | None = None

    def __post_init__(self) -> None:
        # Whoever says what stopped it, the record has no secrets and is bounded.
        is_long = len(self.message) > _LONGEST_MESSAGE
        text = clipped(self.message, _CLIPPED_TO) if is_long else redact(self.message)
        object.__setattr__(self, "message", text)

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "type": self.type,
            "message": self.message,
            "operation": self.operation,
            "sqlstate": self.sqlstate,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedOperations:
    """The operations that other packages have put into a migration of a run.

    They have no position in the migration's list. Receivers of `pre_migrate` add them:
    django.contrib.contenttypes puts one behind each `RenameModel`.
    """

    places: tuple[int, ...] = ()  # of each: how many of the source's own come before it
    begun: int | None = None  # its number, where one of them is the last that has begun
    repeatable: bool = False  # that one can be carried out again, however far it came
    done: int = 0  # carried out by the runs that this one resumes
    is_matched: bool = True  # False: the list is not the source's with additions

    def done_when(self, begun: int | None) -> int:
        """Return how many of them have been carried out when the operation with this
        number in the order of execution was the last of the source's own to begin."""
        if self.begun is not None:
            return max(self.done, self.begun)
        if begun is None:
            return self.done
        return max(self.done, sum(place <= begun for place in self.places))

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "places": list(self.places),
            "begun": self.begun,
            "repeatable": self.repeatable,
            "done": self.done,
            "is_matched": self.is_matched,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> AddedOperations:
        """Read what `to_dict` returned."""
        return cls(**{**stored, "places": tuple(stored["places"])})


NONE_ADDED = AddedOperations()
"""The operations that run are those of the migration's source, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEvidence:
    """What is known of one operation of a step that has stopped."""

    position: int  # in the list of the migration, from 0; behind it: what comes at its end
    description: str
    state: EffectState

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "position": self.position,
            "description": self.description,
            "state": self.state,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> OperationEvidence:
        """Read what `to_dict` returned."""
        return cls(**{**stored, "state": EffectState(stored["state"])})


def facts_of(text: str) -> dict[str, Any]:
    """Read the facts of a row; what is no JSON object is shown as the text that it is."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOut:
    """What the run that is resumed has carried out of its step."""

    count: int  # operations of the migration's source, in the order of execution
    added: AddedOperations
    evidence: tuple[OperationEvidence, ...]


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
