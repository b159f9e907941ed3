"""Verbs of the remote client that create and control runs and rehearsals."""

from __future__ import annotations

import sys
import time
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from migration_route.cli.arguments import (
    apply_arguments,
    is_yes,
    question,
    rehearse_arguments,
    resolve_arguments,
    run_arguments,
)
from migration_route.cli.remote.arguments import FOLLOWING, run_path, seconds, verb
from migration_route.cli.remote.client import DecodedResponse, RouteClient, not_ours
from migration_route.cli.remote.errors import ProblemResponse, Unreachable
from migration_route.cli.remote.follow import (
    Console,
    follow,
    print_run,
    resume_hint,
    wait_for_approval,
)
from migration_route.core.enums import CopyKind, Direction, Mode, Resolution, RunState
from migration_route.core.errors import InvalidRequest, StaleCode
from migration_route.presentation.schemas import (
    PlanAnswer,
    RehearsalAnswer,
    RehearsalsAnswer,
    RunAnswer,
    TerminatedBlockersAnswer,
)
from migration_route.presentation.text.exit_codes import (
    DONE,
    FAILED,
    NOT_ALLOWED,
    exit_of_rehearsal,
)
from migration_route.presentation.text.rehearsals import rehearsal_lines, rehearsals_lines
from migration_route.presentation.text.runs import plan_lines, terminated_blockers_lines

_HELP = {
    "cancel": "cancel a run, even in the middle of a statement",
    "pause": "pause a run before its next step",
    "resume": "resume a paused run, or check again whether a waiting run can start",
    "approve": "approve a run that awaits approval (users only)",
    "reject": "reject a run that awaits approval (users only)",
}
_FORCE = {
    "cancel": "kill its processes and terminate its database sessions",
    "resume": "ignore health signals, the scheduled time, windows and freezes",
}


def add_verbs(verbs: Any) -> None:
    for name, help_text in _HELP.items():
        found = verb(verbs, name, help_text, _control)
        run_arguments(found)
        if name in _FORCE:
            found.add_argument("--force", action="store_true", help=_FORCE[name])
    help_text = "terminate the sessions that block a run (users only)"
    found = verb(verbs, "terminate-blockers", help_text, _terminate_blockers)
    run_arguments(found, needs_reason=True)


def _control(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    body = {"reason": options["reason"]}
    if options.get("force"):
        body["force"] = True
    found = route.post(run_path(options, options["verb"]), body, RunAnswer)
    print_run(screen, options, found)
    return DONE


def _terminate_blockers(
    route: RouteClient, screen: Console, options: dict[str, Any]
) -> int:
    """Terminate the sessions that block a run; return 1 if one was not terminated."""
    body = {"reason": options["reason"]}
    found = route.post(
        run_path(options, "terminate-blockers"), body, TerminatedBlockersAnswer
    )
    screen.terminal.tell(options, found.raw, terminated_blockers_lines(found.value))
    return FAILED if found.value.not_terminated else DONE


CONSECUTIVE_RESPONSES = 5
"""How many consecutive responses have to come from the expected build."""

_PAUSE = 1.0
_SHORT_PAUSE = 0.2


def wait_for_build(route: RouteClient, build: str, *, until: float) -> None:
    """Return when this build has responded several times in a row, each time over a new
    connection. `until` is a time of `time.monotonic`.

    Raises `StaleCode` if another build still responds then, `Unreachable` if none does.
    """
    in_a_row, is_reported = 0, False
    while True:
        seen = _responding_build(route)
        in_a_row = in_a_row + 1 if seen == build else 0
        if in_a_row == CONSECUTIVE_RESPONSES:
            return
        if time.monotonic() > until:
            raise _wrong_build(build, seen)
        if seen != build and not is_reported:
            is_reported = True
            state = f"build {seen!r} responds" if isinstance(seen, str) else str(seen)
            route.tell_trouble(f"Waiting for build {build!r}: {state}")
        time.sleep(_SHORT_PAUSE if in_a_row else _PAUSE)


def _responding_build(route: RouteClient) -> str | Unreachable:
    """Return the build that responds now, or why none does."""
    try:
        reply = route.transport.send("GET", "ready")
    except Unreachable as error:
        if not error.is_passing:
            raise
        return error
    if reply.build is None:
        return Unreachable(not_ours(reply))
    return reply.build


def _wrong_build(build: str, seen: str | Unreachable) -> Exception:
    if isinstance(seen, Unreachable):
        return seen
    if seen == build:
        return StaleCode(
            f"Build {build!r} responds now, but another build did just before."
        )
    return StaleCode(
        f"Build {seen!r} responds instead of {build!r}.",
        hint="Check that the deploy has finished, or increase --build-timeout.",
    )


def add_applying_verbs(verbs: Any) -> None:
    found = verb(verbs, "apply", "apply a plan", _apply, patience=FOLLOWING)
    apply_arguments(found)
    found.add_argument(
        "--wait-for-approval",
        type=seconds,
        metavar="DURATION",
        help="wait this long for an approval instead of exiting with 6",
    )
    found.add_argument(
        "--build",
        default="",
        help="wait until this build responds, and apply with no other build",
    )
    found.add_argument(
        "--build-timeout",
        type=seconds,
        default=600.0,
        metavar="DURATION",
        help="maximum time to wait for --build (default: 10m)",
    )
    help_text = "resolve a partially applied run and unlock its database"
    found = verb(verbs, "resolve", help_text, _resolve, patience=FOLLOWING)
    resolve_arguments(found)


def _apply(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    until = time.monotonic() + options["build_timeout"]
    if options["build"]:
        wait_for_build(route, options["build"], until=until)
    plan = _planned(route, options, until=until)
    if not options["json"]:
        screen.terminal.tell(options, plan.raw, plan_lines(plan.value))
    must_confirm = plan.value.direction != Direction.NONE and not options["yes"]
    needs_approval = plan.value.approval is not None
    if must_confirm and not _is_confirmed(question(needs_approval=needs_approval)):
        screen.write_error("Nothing was applied.")
        return NOT_ALLOWED
    run = _started(route, screen, options, plan.value, until=until)
    run = wait_for_approval(route, screen, options, run)
    if run.value.state == RunState.AWAITING_APPROVAL:
        return print_run(screen, options, run)
    if options["no_wait"]:
        print_run(screen, options, run)
        return DONE
    return follow(route, screen, options, run.value)


def _planned(
    route: RouteClient, options: dict[str, Any], *, until: float
) -> DecodedResponse[PlanAnswer]:
    """Return the plan as the build of `--build` computes it, or any build without it."""
    while True:
        plan = route.get(
            "plan",
            PlanAnswer,
            database=options["database"],
            target=options["targets"],
            mode=None if options["mode"] == Mode.APPLY else options["mode"],
            phase=options["phase"],
        )
        if options["build"] in {"", plan.value.build}:
            return plan
        if time.monotonic() > until:
            raise StaleCode(
                f"The plan came from build {plan.value.build!r}, not {options['build']!r}."
            )
        time.sleep(_PAUSE)


def _is_confirmed(prompt: str) -> bool:
    """Ask the user at the terminal. Raises `InvalidRequest` if there is no terminal."""
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "The plan cannot be confirmed: standard input is not a terminal.",
            hint="Use --yes to apply without confirmation.",
        )
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return is_yes(sys.stdin.readline())


def _started(
    route: RouteClient,
    screen: Console,
    options: dict[str, Any],
    plan: PlanAnswer,
    *,
    until: float,
) -> DecodedResponse[RunAnswer]:
    """Start one run of the plan: the Idempotency-Key makes a repeated request the same one.
    A refusal by another build than that of `--build` is retried."""
    wanted = _body(options, plan)
    headers = {"Idempotency-Key": f"migration-route-{uuid4()}"}
    while True:
        try:
            return route.post("runs", wanted, RunAnswer, headers=headers)
        except ProblemResponse as error:
            is_other = error.problem.code == StaleCode.code and options["build"]
            if not is_other or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        except (KeyboardInterrupt, Unreachable):
            screen.write_error("The run may have started. Check with: migration-route runs")
            raise


def _body(options: dict[str, Any], plan: PlanAnswer) -> dict[str, Any]:
    """Return the request body without defaults: an older server rejects a field that it
    does not know."""
    mode = options["mode"]
    fields = {
        "database": options["database"],
        "targets": options["targets"],
        "fingerprint": options["fingerprint"] or plan.fingerprint,
        "reason": options["reason"],
        "build": options["build"],
        "phase": options["phase"],
        "at": options["at"] and options["at"].isoformat(),
        "rebuild_invalid_indexes": options["rebuild_invalid_indexes"],
        mode: mode in {Mode.FAKE, Mode.FAKE_INITIAL},
    }
    body = {key: value for key, value in fields.items() if value}
    return body | ({"wait_for_window": False} if options["no_wait_for_window"] else {})


def _resolve(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    body = {"reason": options["reason"], "how": options["how"]}
    found = route.post(run_path(options, "resolve"), body, RunAnswer)
    if options["how"] == Resolution.CONTINUE:
        return follow(route, screen, options, found.value)
    print_run(screen, options, found)
    return DONE


_SHORTEST = 0.5
_LONGEST = 5.0


def add_rehearsing_verbs(verbs: Any) -> None:
    help_text = "rehearse a plan on a copy, or in place with a rollback, and print a report"
    found = verb(verbs, "rehearse", help_text, _rehearse, patience=FOLLOWING)
    rehearse_arguments(found)
    help_text = "list the latest rehearsals, or show the report of one"
    found = verb(verbs, "rehearsals", help_text, _show)
    found.add_argument("rehearsal", nargs="?", help="ID of a rehearsal")


def _rehearse(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    wanted = {
        "database": options["database"],
        "targets": options["targets"],
        "phase": options["phase"],
        "fingerprint": options["fingerprint"] or _fingerprint(route, options),
        "kind": CopyKind.DATA.value if options["data"] else CopyKind.SCHEMA.value,
        "round_trip": options["round_trip"],
        "in_place": options["in_place"],
        "reason": options["reason"],
    }
    body = {key: value for key, value in wanted.items() if value}
    found = route.post("rehearsals", body, RehearsalAnswer)
    pause = _SHORTEST
    command = f"rehearsals {found.value.id}"
    with resume_hint(screen, "The rehearsal continues. Show it with", command):
        while not found.value.ended and not options["no_wait"]:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)
            found = route.get(f"rehearsals/{found.value.id}", RehearsalAnswer)
    screen.terminal.tell(options, found.raw, rehearsal_lines(found.value))
    return exit_of_rehearsal(found.value)


def _fingerprint(route: RouteClient, options: dict[str, Any]) -> str:
    return route.get(
        "plan",
        PlanAnswer,
        database=options["database"],
        target=options["targets"],
        phase=options["phase"],
        details="none",
    ).value.fingerprint


def _show(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    if not options["rehearsal"]:
        found = route.get("rehearsals", RehearsalsAnswer, limit=200)
        screen.terminal.tell(options, found.raw, rehearsals_lines(found.value))
        return DONE
    path = f"rehearsals/{quote(options['rehearsal'], safe='')}"
    one = route.get(path, RehearsalAnswer)
    screen.terminal.tell(options, one.raw, rehearsal_lines(one.value))
    return DONE
