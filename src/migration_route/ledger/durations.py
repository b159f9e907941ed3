"""How long did the same step take before?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from migration_route.ledger.reading import list_runs
from migration_route.vocabulary import Mode, StepState

LOOKED_THROUGH = 100
"""Runs, the newest ones: what is older is not looked for."""

_DONE = frozenset((StepState.APPLIED, StepState.REVERTED))

StepKey = tuple[str, str, str, str]
"""A step by its app, name, direction and the digest of its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """How long a step took, in milliseconds, where, and when it was asked for."""

    ms: int
    run: str
    database: str
    at: str


def took_before(steps: Collection[StepKey]) -> dict[StepKey, Took]:
    """Return for each of these steps, as far as it came to its end in one of the last
    runs of any database, how long the newest of those took.

    Raises `DatabaseUnavailable`.
    """
    wanted = set(steps)
    found: dict[StepKey, Took] = {}
    for run in (
        list_runs(database=None, before=None, limit=LOOKED_THROUGH) if wanted else ()
    ):
        if run.mode is not Mode.APPLY:
            continue  # what was only recorded took no time
        for step in run.steps:
            key = (step.app, step.name, step.direction, step.digest)
            resumed = step.done_operations is not None  # a part of it alone
            if step.state not in _DONE or step.duration_ms is None or resumed:
                continue
            if key in wanted and key not in found:
                found[key] = Took(
                    ms=step.duration_ms,
                    run=run.id,
                    database=run.database,
                    at=run.created_at,
                )
    return found
