"""What does the row of a run say of what it waits for, while it waits?"""

from __future__ import annotations

import json
from typing import Any

from migration_route.conf import route_settings
from migration_route.connecting import ledger_connection, ledger_transaction
from migration_route.ledger.fencing import renew_claim
from migration_route.models import Run
from migration_route.vocabulary import Asked, RunState, WaitingReason


def show_waiting(run: str, claim: str, facts: dict[str, Any]) -> None:
    """Show what a run that waits is waiting for by now; no entry is written.

    Raises `ClaimLost`, as the others here do.
    """
    _show(run, claim, {"state": RunState.WAITING}, waiting_facts=json.dumps(facts))


def show_held(run: str, claim: str, facts: dict[str, Any], until: str) -> None:
    """Show which signals hold a run by now, and when it looks again; no entry is
    written."""
    held = {"state": RunState.HELD, "waiting_reason": WaitingReason.HEALTH}
    _show(run, claim, held, waiting_facts=json.dumps(facts), waiting_until=until)


def forget_asked(run: str, claim: str, word: Asked) -> None:
    """Clear a request from the row that has been carried out."""
    _show(run, claim, {"asked": word}, asked="")


def _show(run: str, claim: str, only_if: dict[str, Any], **columns: Any) -> None:
    """Write columns of a row that still says what is expected, under the claim."""
    alias = route_settings().ledger_database
    with ledger_connection(alias), ledger_transaction(alias):
        renew_claim(run, claim)
        Run.objects.using(alias).filter(pk=run, **only_if).update(**columns)
