"""How is it answered what goes wrong?"""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.wire.body import Answer


class Problem(Answer, frozen=True, kw_only=True):
    """An error, as RFC 9457 shapes it, with a code that never changes."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    run: str | None = None
    facts: dict[str, Any] = {}


def to_json(answer: Answer) -> bytes:
    """Write an answer as JSON."""
    return msgspec.json.encode(answer)
