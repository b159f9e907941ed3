"""The verbs of the client that carry out a plan, or what one has left."""

from __future__ import annotations

import sys
import time
from typing import Any
from uuid import uuid4

from migration_route.client import builds
from migration_route.client.arguments import (
    FOLLOWING,
    run_path,
    seconds,
    verb,
)
from migration_route.client.following import follow, tell_run, wait_for_approval
from migration_route.client.problems import Told, Unreachable
from migration_route.client.route import Answered, Route
from migration_route.client.screen import Screen
from migration_route.commandline import (
    apply_arguments,
    is_yes,
    question,
    resolve_arguments,
)
from migration_route.errors import InvalidRequest, StaleCode
from migration_route.rendering.exits import DONE, NOT_ALLOWED
from migration_route.rendering.text import plan_lines
from migration_route.vocabulary import Direction, Mode, Resolution, RunState
from migration_route.wire import PlanAnswer, RunAnswer

_PAUSE = 1.0  # seconds until a build that is not the one is asked again


def add_verbs(verbs: Any) -> None:
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


def _apply(route: Route, screen: Screen, options: dict[str, Any]) -> int:
    until = time.monotonic() + options["build_timeout"]
    if options["build"]:
        builds.wait_for_build(route, options["build"], until=until)
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
    route: Route, options: dict[str, Any], *, until: float
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
    route: Route,
    screen: Screen,
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
        except Told as told:
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


def _resolve(route: Route, screen: Screen, options: dict[str, Any]) -> int:
    body = {"reason": options["reason"], "how": options["how"]}
    found = route.post(run_path(options, "resolve"), body, RunAnswer)
    if options["how"] == Resolution.RESUME:
        return follow(route, screen, options, found.value)
    tell_run(screen, options, found)
    return DONE
