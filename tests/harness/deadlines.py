"""How does a test wait for something that another process will do?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Seen = TypeVar("Seen")


def until(
    look: Callable[[], Seen | None], *, seconds: float, what: str, every: float = 0.1
) -> Seen:
    """Look again and again until something is seen; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)
