"""Findings about steps that nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import Reading
from migration_route.planning.plan import Finding
from migration_route.vocabulary import Severity


def findings(reading: Reading) -> Iterator[Finding]:
    """Say from where on the plan was too long to be read."""
    if reading.unread:
        yield Finding(
            code="steps_not_read",
            severity=Severity.INFO,
            message=f"This plan is long, so its last {len(reading.unread)} steps, from "
            f"{reading.unread[0]} on, were not searched for findings.",
            hint="Ask for a plan with a nearer target.",
        )
