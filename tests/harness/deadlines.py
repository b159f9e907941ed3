"""Waits until another process has reached a condition."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Seen = TypeVar("Seen")


def until(
    look: Callable[[], Seen | None], *, seconds: float, what: str, every: float = 0.1
) -> Seen:
    """Poll until the result is true, and return it; fail after that many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)
