"""Has one attempt to tell somebody arrived, and if not, when is the next one?"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

_FIRST = timedelta(seconds=1)
_LONGEST = timedelta(minutes=15)
_LONGEST_WISH = timedelta(hours=1)
_chance = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailure:
    """An attempt that has failed, and why."""

    error: str  # never anything that the other side or the settings said
    is_about_the_message: bool = False  # others may arrive: the recipient itself is there
    wish: timedelta | None = None  # so long it wants to be left in peace


def pause(attempts: int, wish: timedelta | None) -> timedelta:
    """Return how long to wait after so many attempts: twice as long each time, spread so
    that many who wait do not come at once."""
    if wish is not None:
        return min(max(wish, _FIRST), _LONGEST_WISH) * _chance.uniform(1.0, 1.2)
    doubled = min(_FIRST * float(2 ** min(attempts - 1, 20)), _LONGEST)
    return doubled * _chance.uniform(0.7, 1.3)


def within(
    limit: timedelta,
    attempt: Callable[[], DeliveryFailure | None],
    stop: Callable[[], None],
) -> DeliveryFailure | None:
    """Make an attempt that takes no longer than the limit, whatever it does.

    A time limit of a socket is for each of its calls; one who answers a letter at a time,
    and a name server that is silent, would keep us for ever. `stop` is called, in this
    thread, when the time is over; what is still under way then is left to itself.
    """
    answers: list[DeliveryFailure | None] = []

    def call() -> None:
        try:
            answers.append(attempt())
        except Exception as error:  # noqa: BLE001 - told to who asked, by its name alone
            answers.append(DeliveryFailure(error=named(error)))

    thread = threading.Thread(target=call, name="route attempt", daemon=True)
    thread.start()
    thread.join(limit.total_seconds())
    if not answers:
        stop()
        return DeliveryFailure(error="TimeoutError: no answer in time")
    return answers[0]


def named(error: BaseException) -> str:
    """Return the name of an error, without its text: that may hold an address."""
    number = error.errno if isinstance(error, OSError) else None
    return type(error).__name__ + (f" {number}" if isinstance(number, int) else "")
