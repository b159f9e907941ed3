"""Which calls only look?"""

from __future__ import annotations

from migration_route import wire
from migration_route.api.calls.call import (
    DATABASE,
    PHASE,
    TARGETS,
    Call,
    query,
)
from migration_route.vocabulary import Mode

READING_CALLS = (
    Call(
        method="get",
        path="/status",
        summary="Every database: what is pending",
        answers={200: wire.StatusAnswer},
    ),
    Call(
        method="get",
        path="/ready",
        summary="Is nothing pending that this code requires?",
        answers={200: wire.ReadyAnswer, 503: wire.ReadyAnswer},
        public=True,
        errors=(400, 405),
    ),
    Call(
        method="get",
        path="/health",
        summary="Is now a good moment for a plan? Nothing is begun",
        answers={200: wire.HealthAnswer},
        parameters=(DATABASE, TARGETS, PHASE),
    ),
    Call(
        method="get",
        path="/plan",
        summary="What would happen; nothing is executed",
        answers={200: wire.PlanAnswer},
        parameters=(
            DATABASE,
            TARGETS,
            query(
                "mode",
                {"type": "string", "enum": list(Mode)},
                "How steps are carried out.",
            ),
            query(
                "details",
                {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "none"}]},
                "After how many steps SQL is told, as `details_next` says; or none of it.",
            ),
            PHASE,
        ),
    ),
)
