"""Runs plans for the tests, in real processes as the public interfaces do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from migration_route.core.enums import Mode
from migration_route.execution.launchers.process import with_log_tail
from migration_route.ledger.queries import find_run, list_events
from migration_route.ledger.records import EventRecord, RunRecord
from migration_route.planning.plan import Plan, PlanRequest
from migration_route.policy.decision import Allowed
from migration_route.services import apply as applying
from migration_route.services.plans import plain_plan
from tests.factories import an_actor

LONG = 60.0
"""Seconds after which a process on this loaded machine counts as hanging."""


class Keeper:
    """A launcher that stores runs and starts nothing."""

    kept: tuple[Allowed, RunRecord] | None = None

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Store the run."""
        Keeper.kept = (permit, run)


def plan_to(*targets: str, mode: Mode = Mode.APPLY) -> Plan:
    """Return the plan to these targets."""
    return plain_plan(PlanRequest(targets=targets, mode=mode))


def begin(*targets: str, mode: Mode = Mode.APPLY, **words: Any) -> RunRecord:
    """Request a run of the plan to these targets."""
    request = applying.ApplyRequest(
        targets=targets,
        mode=mode,
        fingerprint=plan_to(*targets, mode=mode).fingerprint,
        **words,
    )
    return applying.apply(request, an_actor())


def carried(*targets: str, mode: Mode = Mode.APPLY) -> RunRecord:
    """Run the plan to these targets, and return the ended run."""
    found = find_run(begin(*targets, mode=mode).id)
    assert not found.is_active, with_log_tail(f"Its process has ended: {found}", found.id)
    return found


def events(run: RunRecord) -> list[EventRecord]:
    """Return all events of a run."""
    return list_events(run.id, after=0, limit=1000)


def printed(run: RunRecord, stream: str = "stdout") -> list[str]:
    """Return what a run printed to one stream."""
    return [
        event.text
        for event in events(run)
        if event.kind == "output" and event.facts["stream"] == stream
    ]


def until(found: Callable[[], Any], what: str) -> Any:
    """Poll until the result is true, and return it."""
    deadline = time.monotonic() + LONG
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)
    return answer
