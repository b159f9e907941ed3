"""The verbs of `manage.py migration_route` that carry out a plan, or what it left.

The verbs of `manage.py migration_route` by which a person agrees to a run, or not.

The verbs of `manage.py migration_route` that ask something of a run that is at work.
"""

from __future__ import annotations

import sys
from typing import Any

from migration_route.access.actors import shell_actor
from migration_route.cli.arguments import (
    apply_arguments,
    is_yes,
    question,
    reason_text,
    resolve_arguments,
)
from migration_route.cli.local import follow, plan_request, tell_run, verb
from migration_route.core.enums import Direction, Resolution, RunState
from migration_route.core.errors import InvalidRequest
from migration_route.planning.plan import AT_FIRST
from migration_route.presentation import serializers
from migration_route.presentation.serializers import plan_answer, with_demand
from migration_route.presentation.text import runs
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import apply, approvals, control, plans, resolve
from migration_route.services import control as ending
from migration_route.services.decisions import approval_requirement_for

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
    actor = shell_actor()
    request = plan_request(options)
    found = plans.plan(request, actor)
    demand = approval_requirement_for(request, found, actor, AT_FIRST)
    if not options["json"]:
        answer = with_demand(plan_answer(found), demand)
        terminal.tell(options, answer, runs.plan_lines(answer))
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
    actor, reason = shell_actor(), options["reason"]
    found = resolve.resolve(options["run"], actor, reason=reason, how=how)
    if how is Resolution.RESUME and found.state is not RunState.AWAITING_APPROVAL:
        return follow(terminal, options, found)
    code = tell_run(terminal, options, found)
    return code if how is Resolution.RESUME else 0


def add_approving_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    words = "agree to a run that waits for approval"
    found = verb(verbs, "approve", words, _approve, terminal)
    found.add_argument("run")
    found.add_argument("--reason", type=reason_text, default="")
    words = "turn down a run that waits for approval"
    found = verb(verbs, "reject", words, _reject, terminal)
    found.add_argument("run")
    found.add_argument("--reason", type=reason_text, default="", required=True)


def _approve(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, reason = shell_actor(), options["reason"]
    found = approvals.approve(options["run"], actor, reason=reason)
    tell_run(terminal, options, found)
    return 0


def _reject(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, reason = shell_actor(), options["reason"]
    found = approvals.reject(options["run"], actor, reason=reason)
    tell_run(terminal, options, found)
    return 0


def add_asking_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    found = verb(verbs, "cancel", "stop a run, in mid-statement as well", _ask, terminal)
    _add_arguments(found)
    found.add_argument(
        "--force",
        action="store_true",
        help="kill its processes, and end its sessions in the database",
    )
    found = verb(verbs, "hold", "let a run wait before its next step", _ask, terminal)
    _add_arguments(found)
    about = "let a run go on that is held, or look again for its opening"
    found = verb(verbs, "resume", about, _ask, terminal)
    _add_arguments(found)
    found.add_argument(
        "--force", action="store_true", help="go on in spite of the signals that hold it"
    )
    found = verb(verbs, "end-blockers", "end who is in its way", _end_blockers, terminal)
    _add_arguments(found, is_explained=True)


def _add_arguments(parser: Any, *, is_explained: bool = False) -> None:
    parser.add_argument("run")
    parser.add_argument("--reason", type=reason_text, default="", required=is_explained)


def _ask(terminal: Terminal, options: dict[str, Any]) -> int:
    run, actor, reason = options["run"], shell_actor(), options["reason"]
    match options["verb"]:
        case "cancel":
            found = control.cancel(run, actor, reason=reason, force=options["force"])
        case "hold":
            found = control.pause(run, actor, reason=reason)
        case _:
            found = control.unpause(run, actor, reason=reason, force=options["force"])
    tell_run(terminal, options, found)
    return 0


def _end_blockers(terminal: Terminal, options: dict[str, Any]) -> int:
    """End who is in the way of a run; 1 when somebody was left alone."""
    run, reason = options["run"], options["reason"]
    found = ending.terminate_blockers(run, shell_actor(), reason=reason)
    answer = serializers.ended_blockers_answer(found.run, found.ended, found.not_ended)
    terminal.tell(options, answer, runs.ended_blockers_lines(answer))
    return 1 if found.not_ended else 0
