"""Tell whether now is a good moment for a plan."""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.conf import route_settings
from migration_route.deciding.health import Moment, weigh
from migration_route.health import HealthSettings, Touched
from migration_route.operations.recording import on_record
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.planning.touching import touched_by
from migration_route.running.looking import Looking
from migration_route.vocabulary import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one database is, for whoever wants to carry out a plan there."""

    database: str
    moment: Moment
    ignored: tuple[str, ...] = ()  # signals that the settings do not heed


def health(request: PlanRequest, actor: Actor) -> Health:
    """Look at the database, and return what the signals come to; nothing is begun.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with on_record(actor, "health", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        found, migrations = make_plan(request)
        return health_of(request.database, touched_by(found, migrations))


def health_of(database: str, touched: Touched) -> Health:
    """Look at the database for somebody who wants to change what is `touched`."""
    settings = route_settings().health or HealthSettings()
    looking = Looking(database)
    try:
        moment = weigh(looking.look(touched), settings)
        return Health(database=database, moment=moment, ignored=tuple(settings.ignore))
    finally:
        looking.close()
