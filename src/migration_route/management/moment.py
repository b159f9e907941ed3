"""The verb `health` of `manage.py migration_route`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.deciding.health import Hold
from migration_route.management.arguments import target_arguments, verb
from migration_route.operations import health as looking
from migration_route.planning.plan import PlanRequest
from migration_route.reporting import serialize, text

NOT_NOW = 5
"""The exit code of a moment that is not good: that of whatever the world refuses now."""


def add_to(verbs: Any, tell: Callable[..., None]) -> None:
    """Add the verb."""
    text_ = "is now a good moment? exit with 5 if not"
    target_arguments(verb(verbs, "health", text_, partial(health, tell)), has_mode=False)


def health(tell: Callable[..., None], options: dict[str, Any]) -> int:
    """Tell whether now is a good moment for the plan to these targets."""
    wanted = PlanRequest(database=options["database"], targets=tuple(options["targets"]))
    found = looking.health(wanted, on_this_host())
    answer = serialize.health_answer(found.database, found.moment, found.ignored)
    tell(options, answer, text.health_lines(answer))
    return NOT_NOW if isinstance(found.moment, Hold) else 0
