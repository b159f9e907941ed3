"""Tell whether now is a good moment for a plan."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.conf import route_settings
from migration_route.deciding.health import Moment, weigh
from migration_route.health import HealthSettings, Touched
from migration_route.operations.details import with_foresight
from migration_route.operations.plan import PlanReading
from migration_route.operations.recording import on_record
from migration_route.planning.plan import Plan, PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.planning.rewriting import rewritten_by
from migration_route.planning.touching import touched_by
from migration_route.running.looking import Looking
from migration_route.vocabulary import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one database is, for whoever wants to carry out a plan there."""

    database: str
    moment: Moment
    ignored: tuple[str, ...] = ()  # signals that the settings do not heed


def health(request: PlanRequest, actor: Actor, read: PlanReading | None = None) -> Health:
    """Look at the database, and return what the signals come to; nothing is begun.

    `read` is the same plan with its forecasts, where it has been read already; else it is
    made, and its forecasts where a signal depends on them.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with on_record(actor, "health", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        if read is None or read.migrations is None:
            found, migrations = make_plan(request)
        else:
            found, migrations = read.plan, read.migrations
        touched = touched_by(found, migrations)
        if read is not None:
            touched = _foreseen(touched, read.plan)
        with closing(Looking(request.database)) as looking:
            signals = looking.look(touched)
            if any(signal.lacks_forecast for signal in signals):
                foretold = with_foresight(found, migrations)
                signals = looking.look(_foreseen(touched, foretold))
        settings = route_settings().health or HealthSettings()
        return Health(
            database=request.database,
            moment=weigh(signals, settings),
            ignored=tuple(settings.ignore),
        )


def _foreseen(touched: Touched, told: Plan) -> Touched:
    rewritten, unforeseen = rewritten_by(told)
    return replace(touched, rewritten=rewritten, unforeseen=unforeseen)
