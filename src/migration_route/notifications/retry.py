"""Delivery attempts: the time limit of one, its failure, and the delay before the next."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

_FIRST = timedelta(seconds=1)
_LONGEST = timedelta(minutes=15)
_LONGEST_RETRY_AFTER = timedelta(hours=1)
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailure:
    """A failed attempt, and why it failed."""

    error: str  # contains nothing from the recipient or the settings
    is_about_the_message: bool = False  # the recipient may accept others
    wish: timedelta | None = None  # the recipient's Retry-After


def retry_delay(attempts: int, wish: timedelta | None) -> timedelta:
    """Return the delay after this many attempts: it doubles each time, with jitter so that
    many recipients are not retried at once."""
    if wish is not None:
        return min(max(wish, _FIRST), _LONGEST_RETRY_AFTER) * _random.uniform(1.0, 1.2)
    doubled = min(_FIRST * float(2 ** min(attempts - 1, 20)), _LONGEST)
    return doubled * _random.uniform(0.7, 1.3)


def run_with_timeout(
    limit: timedelta,
    attempt: Callable[[], DeliveryFailure | None],
    stop: Callable[[], None],
) -> DeliveryFailure | None:
    """Make an attempt that takes no longer than the limit.

    A socket timeout is for each call: a server that sends one byte at a time, or a name
    server that does not respond, could block forever. `stop` is called in this thread when
    the limit is exceeded; what is still running then is abandoned.
    """
    answers: list[DeliveryFailure | None] = []

    def call() -> None:
        try:
            answers.append(attempt())
        except Exception as error:  # noqa: BLE001 - returned to the caller, by name only
            answers.append(DeliveryFailure(error=error_name(error)))

    thread = threading.Thread(target=call, name="delivery attempt", daemon=True)
    thread.start()
    thread.join(limit.total_seconds())
    if not answers:
        stop()
        return DeliveryFailure(error="TimeoutError: no response in time")
    return answers[0]


def error_name(error: BaseException) -> str:
    """Return the name of an error without its text, which may contain an address."""
    number = error.errno if isinstance(error, OSError) else None
    return type(error).__name__ + (f" {number}" if isinstance(number, int) else "")
