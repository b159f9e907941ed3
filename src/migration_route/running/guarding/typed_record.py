"""What does the ledger say about a typed `manage.py migrate`? Who, where, what, and how it
ended; never so that it could disturb the migration."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import Any

from django.db import Error as DatabaseFailure
from django.db.migrations import Migration

from migration_route.access.actor import on_this_host
from migration_route.conf import route_settings
from migration_route.connecting import own_connection
from migration_route.error_texts import message_of
from migration_route.errors import DatabaseUnavailable
from migration_route.ledger.entries import Draft, note
from migration_route.masking import MASK, clipped
from migration_route.planning import sources
from migration_route.planning.graph import read_recorder
from migration_route.vocabulary import Action, Mode

_LONGEST = 2000
_NAMES_A_SECRET = re.compile(r"password|passwd|secret|token|key", re.IGNORECASE)

logger = logging.getLogger("migration_route.ledger")


class TypedRecord:
    """Writes the two lines of one typed `migrate`, if there is anything to say."""

    def __init__(self, alias: str) -> None:
        self.mode: str = Mode.APPLY
        self.carried = False  # the executor was at work
        self._alias = alias
        self._steps: list[tuple[str, str, bool]] = []  # app, name, backwards

    def begin(
        self,
        plan: list[tuple[Migration, bool]],
        *,
        locked: bool,
        waited: float,
        dropped: list[str],
        unresolved: str,
    ) -> None:
        """Say what is going to be done; nothing when another process has done it all."""
        self._steps = [(step.app_label, step.name, back) for step, back in plan]
        if self._steps:
            self._note(
                Action.MIGRATE_STARTED,
                {
                    "argv": _argv(),
                    "pid": os.getpid(),
                    "steps": [
                        [app, name, "backwards" if back else "forwards"]
                        for app, name, back in self._steps
                    ],
                    "locked": locked,
                    "waited_ms": round(waited * 1000),
                    "dropped": dropped,
                    "unresolved": unresolved,
                },
            )

    def finish(self, error: BaseException | None, *, held: bool) -> None:
        """Say how it ended: what the recorder holds now, not what was meant."""
        if self._steps:
            recorded = self._recorded()
            outcome = "failed" if error else "finished" if self.carried else "not_begun"
            self._note(
                Action.MIGRATE_FINISHED,
                {
                    "pid": os.getpid(),
                    "outcome": outcome,
                    "mode": self.mode,
                    "steps": None
                    if recorded is None
                    else [
                        [app, name, _state((app, name) in recorded, backwards=back)]
                        for app, name, back in self._steps
                    ],
                    "error": error
                    and {"type": type(error).__name__, "message": message_of(error)},
                    "lock_held": held,
                },
            )

    def refuse(self, why: str) -> None:
        """Say that somebody typed it in vain."""
        facts = {"verb": "migrate", "code": "active_run", "message": why, "argv": _argv()}
        self._note(Action.REFUSED, facts)

    def _recorded(self) -> frozenset[tuple[str, str]] | None:
        try:
            with own_connection(self._alias):
                return read_recorder(self._alias)
        except (DatabaseFailure, DatabaseUnavailable):
            return None

    def _note(self, action: Action, facts: dict[str, Any]) -> None:
        actor = on_this_host()
        draft = Draft(
            action=action,
            actor_kind=actor.kind,
            actor_name=actor.name,
            database=self._alias,
            build=sources.build(),
            facts=facts,
        )
        try:
            with own_connection(route_settings().ledger_database):
                note(draft)
        except DatabaseUnavailable as error:
            logger.warning("%s of %s is not on record: %s", action, self._alias, error)


def _state(is_recorded: bool, *, backwards: bool) -> str:  # noqa: FBT001 - of two
    if backwards:
        return "still_recorded" if is_recorded else "reverted"
    return "applied" if is_recorded else "not_recorded"


def _argv() -> list[str]:
    words = [clipped(word, _LONGEST) for word in sys.argv]
    return [
        MASK if before.startswith("-") and _NAMES_A_SECRET.search(before) else word
        for before, word in zip(["", *words], words, strict=False)
    ]
