"""What did a run of one phase leave out? Frozen values, as they are stored."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from migration_route.canonical import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredRecord:
    """One step that a run left out."""

    app: str
    name: str
    digest: str  # of the migration's source
    phase: str  # where it belongs
    why: str  # why the run left it out
    build: str  # the code that put it off: it is the one that the run made way for

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"

    def to_dict(self) -> dict[str, str]:
        """Return it as it is stored."""
        return {
            "app": self.app,
            "name": self.name,
            "digest": self.digest,
            "phase": self.phase,
            "why": self.why,
            "build": self.build,
        }


def stored(deferred: Collection[DeferredRecord]) -> str:
    """Write what a row holds; "" for nothing."""
    return canonical_json([left.to_dict() for left in deferred]) if deferred else ""


def deferred_records(text: str) -> tuple[DeferredRecord, ...]:
    """Read what `stored` wrote."""
    return tuple(DeferredRecord(**left) for left in json.loads(text)) if text else ()
