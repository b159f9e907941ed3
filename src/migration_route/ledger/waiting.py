"""What does the row of a run say of the locks that it waits for?"""

from __future__ import annotations

import json
from typing import Any

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.connecting import own_connection
from migration_route.models import Run
from migration_route.vocabulary import RunState


def show_waiting(run: str, facts: dict[str, Any]) -> None:
    """Show what a run that waits is waiting for by now; no entry is written."""
    alias = route_settings().ledger_database
    with own_connection(alias):
        rows = Run.objects.using(alias).filter(pk=run, state=RunState.WAITING)
        rows.update(waiting_facts=json.dumps(facts), heartbeat_at=clock.now())
