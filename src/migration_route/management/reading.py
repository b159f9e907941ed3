"""The verbs of `manage.py migration_route` that change nothing."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Any

import msgspec

from migration_route.access.actor import on_this_host
from migration_route.commandline import target_arguments
from migration_route.errors import InvalidRequest
from migration_route.management.arguments import (
    details_of,
    plan_request,
    verb,
)
from migration_route.management.ending import tell_run
from migration_route.management.following import follow
from migration_route.management.rehearsing import told_plan
from migration_route.management.terminal import Terminal
from migration_route.operations import plan, runs, status
from migration_route.operations.weighing import demanded_of
from migration_route.planning.plan import Details
from migration_route.rendering import text
from migration_route.rendering.exits import exit_of_status
from migration_route.reporting import serialize
from migration_route.reporting.approvals import with_demand

_EVERYTHING = Details(budget=600.0)


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    found = verb(verbs, "status", "what is pending, everywhere", _status, terminal)
    found.add_argument(
        "--check",
        nargs="?",
        choices=("pending", "required"),
        const="pending",
        help="exit with 3 when anything is pending, or anything that is required now",
    )
    target_arguments(verb(verbs, "plan", "what would happen", _plan, terminal))
    found = verb(verbs, "runs", "the last runs", _runs, terminal)
    found.add_argument("--database", metavar="ALIAS")
    found.add_argument("--limit", type=int, default=20)
    verb(verbs, "show", "one run", _show, terminal).add_argument("run")
    verb(verbs, "watch", "follow a run to its end", _watch, terminal).add_argument("run")
    hidden = verb(verbs, "plan-value", None, _plan_value, terminal)
    target_arguments(hidden)
    hidden.add_argument("--details", type=details_of, help=SUPPRESS)


def _status(terminal: Terminal, options: dict[str, Any]) -> int:
    answer = serialize.status_answer(status.status(on_this_host()))
    terminal.tell(options, answer, text.status_lines(answer))
    return exit_of_status(answer, options["check"])


def _plan(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, wanted = on_this_host(), plan_request(options)
    found = plan.plan(wanted, actor, _EVERYTHING)
    demand = demanded_of(wanted, found, actor, _EVERYTHING)
    answer = with_demand(told_plan(found), demand)
    terminal.tell(options, answer, text.plan_lines(answer))
    return 0


def _plan_value(terminal: Terminal, options: dict[str, Any]) -> int:
    """Give a plan to another process of the route, which holds older code."""
    found = plan.planned(plan_request(options), options["details"])
    terminal.write(msgspec.json.encode(found).decode())
    return 0


def _runs(terminal: Terminal, options: dict[str, Any]) -> int:
    limit = options["limit"]
    if not 0 < limit <= 200:
        raise InvalidRequest("--limit must lie between 1 and 200.")
    found = runs.list_all(on_this_host(), database=options["database"], limit=limit)
    answer = serialize.runs_answer(found, limit=limit)
    terminal.tell(options, answer, text.runs_lines(answer))
    return 0


def _show(terminal: Terminal, options: dict[str, Any]) -> int:
    tell_run(terminal, options, runs.show(options["run"], on_this_host()))
    return 0


def _watch(terminal: Terminal, options: dict[str, Any]) -> int:
    return follow(terminal, options, runs.show(options["run"], on_this_host()))
