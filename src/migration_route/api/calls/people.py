"""Which calls are for people alone, with a session?"""

from __future__ import annotations

from migration_route import wire
from migration_route.api.calls.call import Call

PEOPLE_CALLS = (
    Call(
        method="post",
        path="/reauthenticate",
        summary="Show anew who is signed in: changes ask for a fresh login",
        answers={204: None},
        body=wire.Reauthenticate,
        errors=(400, 401, 403, 405, 413, 429, 500, 503),
    ),
)
