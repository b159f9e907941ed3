"""What does `openapi.json` say of the calls about the ledger?"""

from __future__ import annotations

from typing import Any

from migration_route import wire

EXPORT_MEDIA = "application/jsonl"


def ledger_calls(
    limit: dict[str, Any], after: dict[str, Any]
) -> tuple[dict[str, Any], ...]:
    """Return the words of each call; the parameters are those of every list, and of
    everything that goes on behind a number."""
    return (
        {
            "method": "get",
            "path": "/ledger",
            "summary": "Entries of the ledger, newest first",
            "answers": {200: wire.EntriesAnswer},
            "parameters": (
                {
                    "name": "before",
                    "in": "query",
                    "schema": {"type": "integer", "minimum": 1},
                    "description": "The cursor `next`.",
                },
                limit,
            ),
        },
        {
            "method": "get",
            "path": "/ledger/export",
            "summary": "The whole ledger as JSON Lines, oldest first, to verify elsewhere",
            "answers": {200: wire.ExportedEntry},
            "parameters": (after,),
            "media": EXPORT_MEDIA,
        },
        {
            "method": "get",
            "path": "/ledger/verify",
            "summary": "Is the ledger as it was written?",
            "answers": {200: wire.VerificationAnswer},
        },
    )
