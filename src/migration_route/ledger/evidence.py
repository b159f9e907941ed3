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
