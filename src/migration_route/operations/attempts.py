"""How often has somebody tried just now? In this process, and at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MOST_NAMES = 1000


class Attempts:
    """Remembers when each name has tried within a window of seconds."""

    def __init__(
        self, *, window: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._tried: dict[str, list[float]] = {}

    def begin(self, name: str) -> int:
        """Note an attempt, and return how many there were in the window before it."""
        with self._lock:
            now = self._clock()
            if len(self._tried) >= _MOST_NAMES:
                self._tried = {
                    name: times
                    for name, times in self._tried.items()
                    if now - times[-1] < self._window
                }
            times = [at for at in self._tried.get(name, ()) if now - at < self._window]
            self._tried[name] = [*times, now][-_MOST_NAMES:]
            return len(times)

    def forget(self, name: str = "") -> None:
        """Forget what one name has tried, or all of them."""
        with self._lock:
            if name:
                self._tried.pop(name, None)
            else:
                self._tried.clear()
