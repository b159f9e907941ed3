"""Is the session of a rehearsal in place still there, whose processes are gone?"""

from __future__ import annotations

from migration_route.ledger.rehearsal_records import RehearsalRecord
from migration_route.running.recovery.backend import Backend

_ENDS = 5.0  # seconds in which a session goes when it is ended


def end_session_of(record: RehearsalRecord) -> bool:
    """End the session that a killed rehearsal has left, by the name that it bears; return
    whether there is none any more."""
    backend = Backend(record.database)
    try:
        found = backend.describe()
        if found is None or record.id not in found.application:
            return True
        return backend.end(within=_ENDS)
    finally:
        backend.close()
