"""The evidence about a stopped step: its error, and the state of its operations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from migration_route.core.canonical_json import JsonValue
from migration_route.core.enums import EffectState
from migration_route.core.redaction import clipped, redact

_LONGEST_MESSAGE = 6000
_CLIPPED_TO = 4000  # leaves room for the note, so that clipping is idempotent


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError(JsonValue):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedOperations(JsonValue):
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


NONE_ADDED = AddedOperations()
"""Only the operations of the migration's source run, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEvidence(JsonValue):
    """The state of one operation of a stopped step."""

    position: int  # in the migration's list, from 0; past the end: the end of the step
    description: str
    state: EffectState


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
