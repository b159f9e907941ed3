"""What has to be done from time to time, by whichever process is there for it?

`manage.py migration_route work` does it; where no such process is, what can be done by
whoever looks is done then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from migration_route.ledger.reading import active_runs
from migration_route.operations.releasing import look_after
from migration_route.operations.telling import deliver_due

logger = logging.getLogger("migration_route.operations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Something to do every so many seconds."""

    what: str
    every: float
    do: Callable[[], object]


def _look_after_runs() -> None:
    for run in active_runs().values():
        look_after(run)


DUTIES = (
    Duty(
        what="look after runs whose process is gone, or that wait for approval",
        every=2.0,
        do=_look_after_runs,
    ),
    Duty(what="tell people and machines what is due", every=2.0, do=deliver_due),
)
"""One line for each."""


@dataclass(slots=True)
class Duties:
    """The duties of one process, and when each was done last."""

    done_at: dict[str, float] = field(default_factory=dict)

    def do_what_is_due(self) -> bool:
        """Do it; one that fails is told to the log, and keeps the others from nothing.
        Returns whether all went well."""
        now, went_well = time.monotonic(), True
        for duty in DUTIES:
            last = self.done_at.get(duty.what)
            if last is not None and now - last < duty.every:
                continue
            self.done_at[duty.what] = now
            try:
                duty.do()
            except Exception:  # whatever it is, it is not to end the worker
                logger.exception("Could not %s.", duty.what)
                went_well = False
        return went_well
