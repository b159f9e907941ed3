"""Which calls are about the ledger?"""

from __future__ import annotations

from migration_route import wire
from migration_route.api.calls.call import (
    AFTER,
    LIMIT,
    Call,
    query,
)

EXPORT_MEDIA = "application/jsonl"

LEDGER_CALLS = (
    Call(
        method="get",
        path="/ledger",
        summary="Entries of the ledger, newest first",
        answers={200: wire.EntriesAnswer},
        parameters=(
            query("before", {"type": "integer", "minimum": 1}, "The cursor `next`."),
            LIMIT,
        ),
    ),
    Call(
        method="get",
        path="/ledger/export",
        summary="The whole ledger as JSON Lines, oldest first, to verify elsewhere",
        answers={200: wire.ExportedEntry},
        parameters=(AFTER,),
        media=EXPORT_MEDIA,
    ),
    Call(
        method="get",
        path="/ledger/verify",
        summary="Is the ledger as it was written?",
        answers={200: wire.VerificationAnswer},
    ),
)
