"""`manage.py migration_route`: the verbs on a host, which call the services."""

from __future__ import annotations

from migration_route.cli.backend import PlanArguments
from migration_route.planning.plan import PlanRequest


def plan_request(wanted: PlanArguments) -> PlanRequest:
    return PlanRequest(
        database=wanted.database,
        targets=tuple(wanted.targets),
        mode=wanted.mode,
        phase=wanted.phase,
    )
