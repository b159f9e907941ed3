"""Which calls are about approvals?"""

from __future__ import annotations

from migration_route import wire
from migration_route.api.calls.call import wish

APPROVAL_CALLS = (
    wish(
        "approve",
        "Agree to a run that waits for approval; for people only",
        body=wire.GiveReason,
    ),
    wish(
        "reject",
        "Turn down a run that waits for approval; for people only",
        body=wire.GiveReason,
    ),
)
