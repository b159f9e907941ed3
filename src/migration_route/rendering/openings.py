"""How does it read on a terminal when a run may begin, and what it waits for?"""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.vocabulary import OPENING_REASONS, WaitingReason
from migration_route.wire import ActiveWaitingAnswer, OpeningAnswer, RunAnswer


def opening_lines(found: OpeningAnswer | None) -> Iterator[str]:
    """Say when a run would begin; nothing where that is now, or is not told."""
    if found is not None and found.reason == "never":
        yield f"A run would be refused. {found.why}"
    elif found is not None and found.at:
        yield f"A run would wait. {found.why}"


def waits_until(waiting: ActiveWaitingAnswer | None) -> str:
    """Say in brackets what a run waits for; nothing where it does not wait."""
    if waiting is None:
        return ""
    until = f" until {waiting.until[:19]}Z" if waiting.until else ""
    return f" ({waiting.reason}{until})"


def waits_for(run: RunAnswer) -> str:
    """Say in a line why a run does not begin yet; nothing where it does."""
    waiting = run.waiting
    if waiting is None:
        return ""
    if waiting.reason == WaitingReason.CARRIER:
        return "  waits for a worker: no process has taken it yet"
    if waiting.reason in OPENING_REASONS:
        return f"  waits ({waiting.reason}): {waiting.why}"
    return ""
