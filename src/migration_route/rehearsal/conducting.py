"""Which process carries out a rehearsal, and in which way? This one, and its children."""

from __future__ import annotations

from django.db import connections

from migration_route.ledger import rehearsals
from migration_route.ledger.rehearsal_records import RehearsalRecord
from migration_route.rehearsal.conductor import Conductor
from migration_route.rehearsal.in_place import InPlaceConductor
from migration_route.running.child import Child
from migration_route.running.signals import heeded


def conduct(rehearsal: str, *, and_back: bool) -> RehearsalRecord:
    """Carry out a queued rehearsal in this process and its children; return it as it
    ended. Raises `NotInThisState` when it is not queued, `UnknownRehearsal`."""
    with heeded() as signals:
        # Before anything is connected: a worker for each way.
        children = [Child() for _ in range(2 if and_back else 1)]
        try:
            record = rehearsals.find_rehearsal(rehearsal)
            conductor = InPlaceConductor if record.in_place else Conductor
            return conductor(record, children, signals).conduct()
        finally:
            for child in children:
                child.kill()
            connections.close_all()
