"""Which calls are about rehearsals?"""

from __future__ import annotations

from typing import Any

from migration_route import wire
from migration_route.api.calls.call import LIMIT, TEXT, Call


def _parameter(name: str, place: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": TEXT, "description": text}


REHEARSAL_CALLS = (
    Call(
        method="get",
        path="/rehearsals",
        summary="Rehearsals, newest first, without their reports",
        answers={200: wire.RehearsalsAnswer},
        parameters=(
            _parameter("database", "query", "Only those of one database."),
            _parameter("before", "query", "The cursor `next` of the page before."),
            LIMIT,
        ),
    ),
    Call(
        method="post",
        path="/rehearsals",
        summary="Carry out the plan with this fingerprint on a copy, or in place",
        answers={200: wire.RehearsalAnswer, 202: wire.RehearsalAnswer},
        body=wire.CreateRehearsal,
        parameters=(
            _parameter(
                "Prefer", "header", "wait=30 waits for an end up to that many seconds."
            ),
        ),
        errors=(400, 401, 403, 404, 405, 409, 413, 428, 500, 503),
    ),
    Call(
        method="get",
        path="/rehearsals/{rehearsal}",
        summary="One rehearsal, with its report when it has ended",
        answers={200: wire.RehearsalAnswer},
        parameters=(
            {
                **_parameter("rehearsal", "path", "Its id."),
                "required": True,
                "schema": {**TEXT, "pattern": "^[0-9a-f]{32}$"},
            },
        ),
    ),
)
