"""What does the row of a run say of what it waits for, while it waits?"""

from __future__ import annotations

import json
from typing import Any

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.connecting import own_connection
from migration_route.models import Run
from migration_route.vocabulary import Asked, RunState, WaitingReason


def show_waiting(run: str, facts: dict[str, Any]) -> None:
    """Show what a run that waits is waiting for by now; no entry is written."""
    alias = route_settings().ledger_database
    with own_connection(alias):
        rows = Run.objects.using(alias).filter(pk=run, state=RunState.WAITING)
        rows.update(waiting_facts=json.dumps(facts), heartbeat_at=clock.now())


def show_held(run: str, facts: dict[str, Any], until: str) -> None:
    """Show which signals hold a run by now, and when it looks again; no entry is
    written."""
    alias = route_settings().ledger_database
    with own_connection(alias):
        rows = Run.objects.using(alias).filter(
            pk=run, state=RunState.HELD, waiting_reason=WaitingReason.HEALTH
        )
        rows.update(
            waiting_facts=json.dumps(facts), waiting_until=until, heartbeat_at=clock.now()
        )


def forget_asked(run: str, word: Asked) -> None:
    """Take a wish out of the row, which has been fulfilled."""
    alias = route_settings().ledger_database
    with own_connection(alias):
        Run.objects.using(alias).filter(pk=run, asked=word).update(asked="")
