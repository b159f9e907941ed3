"""The verb `health` of `manage.py migration_route`."""

from __future__ import annotations

from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.commandline import target_arguments
from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.operations import health as looking
from migration_route.planning.plan import PlanRequest
from migration_route.rendering import text
from migration_route.rendering.exits import exit_of_health
from migration_route.reporting import serialize


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    words = "is now a good moment? exit with 5 if not"
    target_arguments(verb(verbs, "health", words, _health, terminal), has_mode=False)


def _health(terminal: Terminal, options: dict[str, Any]) -> int:
    """Tell whether now is a good moment for the plan to these targets."""
    wanted = PlanRequest(database=options["database"], targets=tuple(options["targets"]))
    found = looking.health(wanted, on_this_host())
    answer = serialize.health_answer(found.database, found.moment, found.ignored)
    terminal.tell(options, answer, text.health_lines(answer))
    return exit_of_health(answer)
