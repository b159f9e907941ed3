"""The verbs of `manage.py migration_route` that carry out a plan, or what it left."""

from __future__ import annotations

import sys
from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.commandline import (
    apply_arguments,
    is_yes,
    question,
    resolve_arguments,
)
from migration_route.errors import InvalidRequest
from migration_route.management.arguments import plan_request, verb
from migration_route.management.ending import tell_run
from migration_route.management.following import follow
from migration_route.management.terminal import Terminal
from migration_route.operations import apply, plan, resolve
from migration_route.operations.weighing import demanded_of
from migration_route.planning.plan import AT_FIRST
from migration_route.rendering import text
from migration_route.reporting.approvals import with_demand
from migration_route.reporting.plans import plan_answer
from migration_route.vocabulary import Direction, Resolution, RunState

_NOT_ALLOWED = 4


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    found = verb(verbs, "apply", "carry out a plan", _apply, terminal)
    apply_arguments(found)
    found = verb(
        verbs, "resolve", "open a database that a run left in between", _resolve, terminal
    )
    resolve_arguments(found)


def _apply(terminal: Terminal, options: dict[str, Any]) -> int:
    actor = on_this_host()
    request = plan_request(options)
    found = plan.plan(request, actor)
    demand = demanded_of(request, found, actor, AT_FIRST)
    if not options["json"]:
        answer = with_demand(plan_answer(found), demand)
        terminal.tell(options, answer, text.plan_lines(answer))
    is_asked = found.direction is not Direction.NONE and not options["yes"]
    if is_asked and not _is_agreed(question(needs_approval=demand is not None)):
        terminal.write_error("Nothing was applied.")
        return _NOT_ALLOWED
    run = apply.apply(
        apply.ApplyRequest(
            database=request.database,
            targets=request.targets,
            mode=request.mode,
            phase=request.phase,
            fingerprint=options["fingerprint"] or found.fingerprint,
            reason=options["reason"],
            rebuild_invalid_indexes=options["rebuild_invalid_indexes"],
            at=options["at"],
            wait_for_window=not options["no_window_wait"],
        ),
        actor,
    )
    waits_for_people = run.state is RunState.AWAITING_APPROVAL
    if options["no_wait"] or waits_for_people:
        code = tell_run(terminal, options, run)
        return code if waits_for_people else 0
    return follow(terminal, options, run)


def _is_agreed(words: str) -> bool:
    """Ask the person at the terminal; where nobody can answer, nothing is applied."""
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "Nobody can be asked here.",
            hint="Say --yes to apply without a question.",
        )
    return is_yes(input(words))


def _resolve(terminal: Terminal, options: dict[str, Any]) -> int:
    how = Resolution(options["how"])
    actor, reason = on_this_host(), options["reason"]
    found = resolve.resolve(options["run"], actor, reason=reason, how=how)
    if how is Resolution.RESUME and found.state is not RunState.AWAITING_APPROVAL:
        return follow(terminal, options, found)
    code = tell_run(terminal, options, found)
    return code if how is Resolution.RESUME else 0
