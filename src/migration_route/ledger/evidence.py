"""What stopped a step, and what is known of its operations?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from migration_route.masking import clipped, masked
from migration_route.vocabulary import Presence

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
        text = clipped(self.message, _CLIPPED_TO) if is_long else masked(self.message)
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
    state: Presence

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
        return cls(**{**stored, "state": Presence(stored["state"])})


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
