"""How does it look on the wire whether now is a good moment?"""

from __future__ import annotations

from typing import Any

from migration_route.wire.body import Answer


class SignalAnswer(Answer, frozen=True, kw_only=True):
    """One thing that was looked at: normal, stop or unknown, and why."""

    name: str
    state: str
    reason: str
    facts: dict[str, Any] = {}


class HealthAnswer(Answer, frozen=True, kw_only=True):
    """Is now a good moment? `go`, or `hold` while a signal stops that is not ignored."""

    database: str
    verdict: str
    signals: list[SignalAnswer]
    ignored: list[str] = []
