"""The verbs of the client that carry out a plan, or what one has left.

The verbs of the client that ask something of a run that is there.

Which code is answering? After a deploy, two builds may do so by turns.

The verbs `rehearse` and `rehearsals` of the client.
"""

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
    reason_text,
    rehearse_arguments,
    resolve_arguments,
)
from migration_route.cli.remote.arguments import FOLLOWING, run_path, seconds, verb
from migration_route.cli.remote.client import Answered, RouteClient
from migration_route.cli.remote.errors import ProblemResponse, Unreachable
from migration_route.cli.remote.follow import (
    Console,
    follow,
    going,
    tell_run,
    wait_for_approval,
)
from migration_route.core.enums import CopyKind, Direction, Mode, Resolution, RunState
from migration_route.core.errors import InvalidRequest, StaleCode
from migration_route.presentation.schemas import (
    EndedBlockersAnswer,
    PlanAnswer,
    RehearsalAnswer,
    RehearsalsAnswer,
    RunAnswer,
)
from migration_route.presentation.text.exit_codes import (
    DONE,
    FAILED,
    NOT_ALLOWED,
    exit_of_rehearsal,
)
from migration_route.presentation.text.rehearsals import rehearsal_lines, rehearsals_lines
from migration_route.presentation.text.runs import ended_blockers_lines, plan_lines

_ABOUT = {
    "cancel": "stop a run, in mid-statement as well",
    "hold": "let a run wait before its next step",
    "resume": "let a run go on that is held, or look again for its opening",
    "approve": "approve the plan of a run that waits for it; for people",
    "reject": "refuse to approve it; for people",
}
_FORCE = {
    "cancel": "kill its processes, and end its sessions in the database",
    "resume": "go on in spite of the signals that hold it",
}


def add_verbs(verbs: Any) -> None:
    """Add these verbs to the client."""
    for name, about in _ABOUT.items():
        found = verb(verbs, name, about, _ask)
        found.add_argument("run")
        found.add_argument("--reason", type=reason_text, default="")
        if name in _FORCE:
            found.add_argument("--force", action="store_true", help=_FORCE[name])
    found = verb(verbs, "end-blockers", "end who is in its way; for people", _end_blockers)
    found.add_argument("run")
    found.add_argument("--reason", type=reason_text, default="", required=True)


def _ask(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    body = {"reason": options["reason"]}
    if options.get("force"):
        body["force"] = True
    found = route.post(run_path(options, options["verb"]), body, RunAnswer)
    tell_run(screen, options, found)
    return DONE


def _end_blockers(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    """End who is in the way of a run; 1 when somebody was left alone."""
    body = {"reason": options["reason"]}
    found = route.post(run_path(options, "end-blockers"), body, EndedBlockersAnswer)
    screen.terminal.tell(options, found.raw, ended_blockers_lines(found.value))
    return FAILED if found.value.not_ended else DONE


ANSWERS = 5
"""How many answers in a row have to come from the build that is waited for."""

_PAUSE = 1.0
_SHORT_PAUSE = 0.2


def wait_for_build(route: RouteClient, build: str, *, until: float) -> None:
    """Come back when this build has answered several times in a row, each time over a new
    connection. `until` is a time of `time.monotonic`.

    Raises `StaleCode` when another one still answers then, `Unreachable` when none does.
    """
    in_a_row, is_told = 0, False
    while True:
        seen = _answering(route)
        in_a_row = in_a_row + 1 if seen == build else 0
        if in_a_row == ANSWERS:
            return
        if time.monotonic() > until:
            raise _too_late(build, seen)
        if seen != build and not is_told:
            is_told = True
            said = f"build {seen!r} answers" if isinstance(seen, str) else str(seen)
            route.tell_trouble(f"Waiting for build {build!r}: {said}")
        time.sleep(_SHORT_PAUSE if in_a_row else _PAUSE)


def _answering(route: RouteClient) -> str | Unreachable:
    """Return the build that answers now, or why none does."""
    try:
        reply = route.transport.send("GET", "ready")
    except Unreachable as error:
        if not error.is_passing:
            raise
        return error
    if reply.build is None:
        return Unreachable(f"{reply.url} answers with {reply.status}, and not the route.")
    return reply.build


def _too_late(build: str, seen: str | Unreachable) -> Exception:
    if isinstance(seen, Unreachable):
        return seen
    if seen == build:
        return StaleCode(
            f"Build {build!r} answers now, but another one did until just now."
        )
    return StaleCode(
        f"Build {seen!r} answers, not {build!r}.",
        hint="Has the deploy come to its end? --build-timeout says how long to wait.",
    )


# seconds until a build that is not the one is asked again


def add_applying_verbs(verbs: Any) -> None:
    """Add these verbs to the client."""
    found = verb(verbs, "apply", "carry out a plan", _apply, patience=FOLLOWING)
    apply_arguments(found)
    found.add_argument(
        "--wait-for-approval",
        type=seconds,
        metavar="DURATION",
        help="wait so long for an approval; left out: exit with 6",
    )
    found.add_argument(
        "--build", default="", help="wait until this build answers, and let no other apply"
    )
    found.add_argument(
        "--build-timeout",
        type=seconds,
        default=600.0,
        metavar="DURATION",
        help="how long to wait for it (10m)",
    )
    about = "open a database that a run left in between"
    found = verb(verbs, "resolve", about, _resolve, patience=FOLLOWING)
    resolve_arguments(found)


def _apply(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    until = time.monotonic() + options["build_timeout"]
    if options["build"]:
        wait_for_build(route, options["build"], until=until)
    plan = _planned(route, options, until=until)
    if not options["json"]:
        screen.terminal.tell(options, plan.raw, plan_lines(plan.value))
    is_asked = plan.value.direction != Direction.NONE and not options["yes"]
    needs_approval = plan.value.approval is not None
    if is_asked and not _is_agreed(question(needs_approval=needs_approval)):
        screen.write_error("Nothing was applied.")
        return NOT_ALLOWED
    run = _started(route, screen, options, plan.value, until=until)
    run = wait_for_approval(route, screen, options, run)
    if run.value.state == RunState.AWAITING_APPROVAL:
        return tell_run(screen, options, run)
    if options["no_wait"]:
        tell_run(screen, options, run)
        return DONE
    return follow(route, screen, options, run.value)


def _planned(
    route: RouteClient, options: dict[str, Any], *, until: float
) -> Answered[PlanAnswer]:
    """Return the plan, as the build tells it that is waited for."""
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


def _is_agreed(words: str) -> bool:
    """Ask the person at the terminal; where nobody can answer, nothing is applied."""
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "Nobody can be asked here.", hint="Say --yes to apply without a question."
        )
    sys.stderr.write(words)
    sys.stderr.flush()
    return is_yes(sys.stdin.readline())


def _started(
    route: RouteClient,
    screen: Console,
    options: dict[str, Any],
    plan: PlanAnswer,
    *,
    until: float,
) -> Answered[RunAnswer]:
    """Start a run of the plan, once: the key makes a request that is sent again the same
    one. A build that is not the one refuses it, and is asked again."""
    wanted = _body(options, plan)
    headers = {"Idempotency-Key": f"migration-route-{uuid4()}"}
    while True:
        try:
            return route.post("runs", wanted, RunAnswer, headers=headers)
        except ProblemResponse as told:
            is_other = told.problem.code == StaleCode.code and options["build"]
            if not is_other or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        except (KeyboardInterrupt, Unreachable):
            screen.write_error("It may have begun: migration-route runs")
            raise


def _body(options: dict[str, Any], plan: PlanAnswer) -> dict[str, Any]:
    """Return what is asked for; what is not said is left out, for an older route refuses
    a field that it does not know."""
    mode = options["mode"]
    words = {
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
    body = {key: value for key, value in words.items() if value}
    return body | ({"wait_for_window": False} if options["no_window_wait"] else {})


def _resolve(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    body = {"reason": options["reason"], "how": options["how"]}
    found = route.post(run_path(options, "resolve"), body, RunAnswer)
    if options["how"] == Resolution.RESUME:
        return follow(route, screen, options, found.value)
    tell_run(screen, options, found)
    return DONE


_SHORTEST = 0.5
_LONGEST = 5.0


def add_rehearsing_verbs(verbs: Any) -> None:
    """Add these verbs to the client."""
    about = "carry out a plan on a copy, or in place and undone, and tell what was seen"
    found = verb(verbs, "rehearse", about, _rehearse, patience=FOLLOWING)
    rehearse_arguments(found)
    found = verb(verbs, "rehearsals", "the last rehearsals, or one with its report", _show)
    found.add_argument("rehearsal", nargs="?")


def _rehearse(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    wanted = {
        "database": options["database"],
        "targets": options["targets"],
        "phase": options["phase"],
        "fingerprint": options["fingerprint"] or _fingerprint(route, options),
        "kind": CopyKind.DATA.value if options["data"] else CopyKind.SCHEMA.value,
        "and_back": options["and_back"],
        "in_place": options["in_place"],
        "reason": options["reason"],
    }
    body = {key: value for key, value in wanted.items() if value}
    found = route.post("rehearsals", body, RehearsalAnswer)
    pause = _SHORTEST
    back = f"rehearsals {found.value.id}"
    with going(screen, "The rehearsal goes on; look at it with", back):
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
