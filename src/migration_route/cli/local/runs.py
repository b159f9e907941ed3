"""The verbs of `manage.py migration_route` that create, approve, control and resolve
runs."""

from __future__ import annotations

import sys
from typing import Any

from migration_route.access.actors import shell_actor
from migration_route.cli.arguments import (
    apply_arguments,
    is_yes,
    question,
    resolve_arguments,
    run_arguments,
)
from migration_route.cli.local import follow, plan_request, print_run, verb
from migration_route.core.enums import Direction, Resolution, RunState
from migration_route.core.errors import InvalidRequest
from migration_route.planning.plan import DEFAULT_DETAILS
from migration_route.presentation import serializers
from migration_route.presentation.serializers import plan_answer, with_approval_requirement
from migration_route.presentation.text import runs
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import apply, approvals, control, plans, resolve
from migration_route.services import control as ending
from migration_route.services.decisions import approval_requirement_for

_NOT_ALLOWED = 4


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    apply_arguments(verb(verbs, "apply", "apply a plan", _apply, terminal))
    help_text = "resolve a partially applied run and unlock its database"
    resolve_arguments(verb(verbs, "resolve", help_text, _resolve, terminal))


def _apply(terminal: Terminal, options: dict[str, Any]) -> int:
    actor = shell_actor()
    request = plan_request(options)
    found = plans.plan(request, actor)
    requirement = approval_requirement_for(request, found, actor, DEFAULT_DETAILS)
    if not options["json"]:
        answer = with_approval_requirement(plan_answer(found), requirement)
        terminal.tell(options, answer, runs.plan_lines(answer))
    must_confirm = found.direction is not Direction.NONE and not options["yes"]
    if must_confirm and not _is_confirmed(question(needs_approval=requirement is not None)):
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
            wait_for_window=not options["no_wait_for_window"],
        ),
        actor,
    )
    awaits_approval = run.state is RunState.AWAITING_APPROVAL
    if options["no_wait"] or awaits_approval:
        code = print_run(terminal, options, run)
        return code if awaits_approval else 0
    return follow(terminal, options, run)


def _is_confirmed(prompt: str) -> bool:
    """Ask the user at the terminal. Raises `InvalidRequest` if there is no terminal."""
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "The plan cannot be confirmed: standard input is not a terminal.",
            hint="Use --yes to apply without confirmation.",
        )
    return is_yes(input(prompt))


def _resolve(terminal: Terminal, options: dict[str, Any]) -> int:
    how = Resolution(options["how"])
    actor, reason = shell_actor(), options["reason"]
    found = resolve.resolve(options["run"], actor, reason=reason, how=how)
    if how is Resolution.CONTINUE and found.state is not RunState.AWAITING_APPROVAL:
        return follow(terminal, options, found)
    code = print_run(terminal, options, found)
    return code if how is Resolution.CONTINUE else 0


def add_approving_verbs(verbs: Any, terminal: Terminal) -> None:
    help_text = "approve a run that awaits approval"
    run_arguments(verb(verbs, "approve", help_text, _approve, terminal))
    help_text = "reject a run that awaits approval"
    found = verb(verbs, "reject", help_text, _reject, terminal)
    run_arguments(found, needs_reason=True)


def _approve(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, reason = shell_actor(), options["reason"]
    found = approvals.approve(options["run"], actor, reason=reason)
    print_run(terminal, options, found)
    return 0


def _reject(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, reason = shell_actor(), options["reason"]
    found = approvals.reject(options["run"], actor, reason=reason)
    print_run(terminal, options, found)
    return 0


def add_control_verbs(verbs: Any, terminal: Terminal) -> None:
    help_text = "cancel a run, even in the middle of a statement"
    found = verb(verbs, "cancel", help_text, _control, terminal)
    run_arguments(found)
    found.add_argument(
        "--force",
        action="store_true",
        help="kill its processes and terminate its database sessions",
    )
    help_text = "pause a run before its next step"
    run_arguments(verb(verbs, "pause", help_text, _control, terminal))
    help_text = "resume a paused run, or check again whether a waiting run can start"
    found = verb(verbs, "resume", help_text, _control, terminal)
    run_arguments(found)
    found.add_argument(
        "--force",
        action="store_true",
        help="ignore health signals, the scheduled time, windows and freezes",
    )
    help_text = "terminate the sessions that block a run"
    found = verb(verbs, "terminate-blockers", help_text, _terminate_blockers, terminal)
    run_arguments(found, needs_reason=True)


def _control(terminal: Terminal, options: dict[str, Any]) -> int:
    run, actor, reason = options["run"], shell_actor(), options["reason"]
    match options["verb"]:
        case "cancel":
            found = control.cancel(run, actor, reason=reason, force=options["force"])
        case "pause":
            found = control.pause(run, actor, reason=reason)
        case _:
            found = control.resume(run, actor, reason=reason, force=options["force"])
    print_run(terminal, options, found)
    return 0


def _terminate_blockers(terminal: Terminal, options: dict[str, Any]) -> int:
    """Terminate the sessions that block a run; return 1 if one was not terminated."""
    run, reason = options["run"], options["reason"]
    found = ending.terminate_blockers(run, shell_actor(), reason=reason)
    answer = serializers.terminated_blockers_answer(
        found.run, found.terminated, found.not_terminated
    )
    terminal.tell(options, answer, runs.terminated_blockers_lines(answer))
    return 1 if found.not_terminated else 0
