"""How does a database stand, compared with this code?"""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.errors import RouteError
from migration_route.planning.phases.values import Deferred


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """What is known of one database right now; `None` where it cannot be known."""

    database: str
    vendor: str
    reachable: bool
    pending: tuple[str, ...] | None = None  # "app.name", in the order of their plan
    required: tuple[str, ...] | None = None  # those of them that this code needs now
    later: tuple[Deferred, ...] = ()  # the others: they come after the deploy
    applied: int | None = None
    ahead: tuple[str, ...] = ()  # recorded for apps of this code, but not in it
    active_run: str | None = None  # the id of the run that owns it
    active_state: str = ""  # and the state of that run
    active_waits_for: str = ""  # the reason why it waits; "" where it does not
    active_until: str = ""
    unresolved_run: str | None = None
    ledger_installed: bool = False
    problem: RouteError | None = None
