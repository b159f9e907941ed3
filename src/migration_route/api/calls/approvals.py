"""Which calls are about approvals?"""

from __future__ import annotations

from migration_route import wire
from migration_route.api.calls.call import ERRORS_OF_A_WISH, RUN_ID, Call

APPROVAL_CALLS = (
    Call(
        method="post",
        path="/runs/{run}/approve",
        summary="Agree to a run that waits for approval; for people only",
        answers={200: wire.RunAnswer},
        body=wire.GiveReason,
        parameters=(RUN_ID,),
        errors=ERRORS_OF_A_WISH,
    ),
    Call(
        method="post",
        path="/runs/{run}/reject",
        summary="Turn down a run that waits for approval; for people only",
        answers={200: wire.RunAnswer},
        body=wire.GiveReason,
        parameters=(RUN_ID,),
        errors=ERRORS_OF_A_WISH,
    ),
)
