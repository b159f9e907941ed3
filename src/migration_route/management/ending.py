"""The verb `end-blockers` of `manage.py migration_route`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.operations import end_blockers as ending
from migration_route.reporting import serialize, text


def end_blockers(tell: Callable[..., None], options: dict[str, Any]) -> int:
    """End who is in the way of a run; return 1 when somebody was left alone."""
    run, reason = options["run"], options["reason"]
    found = ending.end_blockers(run, on_this_host(), reason=reason)
    answer = serialize.ended_blockers_answer(found.run, found.ended, found.not_ended)
    tell(options, answer, text.ended_blockers_lines(answer))
    return 1 if found.not_ended else 0
