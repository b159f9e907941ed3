"""The verb of `manage.py migration_route` that tells people and machines what waits."""

from __future__ import annotations

from typing import Any

from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.operations.telling import deliver_until_done


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add the verb, which a process of the route calls: it is not listed."""
    found = verb(verbs, "deliver", None, _deliver, terminal)
    found.add_argument("words", help="the name of the file that takes what it prints")


def _deliver(terminal: Terminal, options: dict[str, Any]) -> int:
    del terminal
    deliver_until_done(options["words"])
    return 0
