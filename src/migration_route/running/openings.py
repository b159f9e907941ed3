"""When may a run begin, by the settings as this process knows them?"""

from __future__ import annotations

from datetime import datetime

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.deciding.windows import Later, Now, Opening, opening
from migration_route.health import Freeze, SignalName
from migration_route.ledger.opening import Waiting
from migration_route.ledger.records import RunRecord
from migration_route.windows import windows_of


def opening_for(database: str, *, at: datetime | None = None) -> Opening:
    """Return when a run on this database may begin that is asked for now."""
    windows = windows_of(route_settings().windows, database)
    return opening(windows, _heeded_freezes(), at, clock.current())


def opening_of(run: RunRecord) -> Opening:
    """Return when a run that is on record may begin."""
    if run.in_spite:
        return Now()
    at = clock.parsed(run.begin_at) if run.begin_at else None
    return opening_for(run.database, at=at)


def window_for(run: RunRecord) -> Opening:
    """Return when a further step of a run may begin; freezes are a signal by then."""
    if run.in_spite:
        return Now()
    windows = windows_of(route_settings().windows, run.database)
    return opening(windows, (), None, clock.current())


def waiting_for(later: Later) -> Waiting:
    """Return how it is put on record that a run does not begin yet."""
    return Waiting(
        reason=later.reason, until=clock.written(later.at), facts={"why": later.why}
    )


def _heeded_freezes() -> tuple[Freeze, ...]:
    health = route_settings().health
    is_ignored = health is not None and SignalName.FREEZE in health.ignore
    return () if is_ignored else route_settings().freezes
