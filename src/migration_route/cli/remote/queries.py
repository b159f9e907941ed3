"""The verbs of the client that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from migration_route.cli.arguments import target_arguments
from migration_route.cli.export_file import save_export, tell_export
from migration_route.cli.remote.arguments import FOLLOWING, run_path, verb, with_client
from migration_route.cli.remote.client import RouteClient
from migration_route.cli.remote.follow import Console, follow, tell_run
from migration_route.core.enums import Mode
from migration_route.core.errors import InvalidRequest
from migration_route.presentation.schemas import (
    HealthAnswer,
    PlanAnswer,
    RunAnswer,
    RunsAnswer,
    StatusAnswer,
    VerificationAnswer,
)
from migration_route.presentation.text import runs
from migration_route.presentation.text.exit_codes import (
    DONE,
    FAILED,
    exit_of_health,
    exit_of_status,
)


def add_verbs(verbs: Any) -> None:
    """Add these verbs to the client."""
    found = verb(verbs, "status", "what is pending, everywhere", _status)
    found.add_argument(
        "--check",
        nargs="?",
        choices=("pending", "required"),
        const="pending",
        help="exit with 3 when anything is pending, or anything that is required now",
    )
    target_arguments(verb(verbs, "plan", "what would happen", _plan))
    about = "is now a good moment? exit with 5 if not"
    target_arguments(verb(verbs, "health", about, _health), has_mode=False)
    found = verb(verbs, "runs", "the last runs", _runs)
    found.add_argument("--database", metavar="ALIAS")
    found.add_argument("--limit", type=int, default=20)
    verb(verbs, "show", "one run", _show).add_argument("run")
    about = "follow a run to its end"
    verb(verbs, "watch", about, _watch, patience=FOLLOWING).add_argument("run")


def add_ledger_verbs(verbs: Any) -> None:
    """Add the verbs about the ledger to the client."""
    nested = verbs.add_parser("ledger", help="the ledger").add_subparsers(
        dest="ledger_verb", required=True
    )
    found = verb(nested, "verify", "is the ledger as it was written?", _verify)
    found.add_argument("--file", type=Path, help="verify an export, not the ledger itself")
    found.set_defaults(handler=_verify_file_or_ledger)
    found = verb(nested, "export", "the whole ledger as JSON Lines", _export, patience=30.0)
    found.add_argument("--output", type=Path, metavar="FILE", help="left out: print it")


def _status(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    found = route.get("status", StatusAnswer)
    screen.terminal.tell(options, found.raw, runs.status_lines(found.value))
    return exit_of_status(found.value, options["check"])


def _plan(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    found = route.get(
        "plan",
        PlanAnswer,
        database=options["database"],
        target=options["targets"],
        mode=None if options["mode"] == Mode.APPLY else options["mode"],
        phase=options["phase"],
    )
    screen.terminal.tell(options, found.raw, runs.plan_lines(found.value))
    return DONE


def _health(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    found = route.get(
        "health", HealthAnswer, database=options["database"], target=options["targets"]
    )
    screen.terminal.tell(options, found.raw, runs.health_lines(found.value))
    return exit_of_health(found.value)


def _runs(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    if not 0 < options["limit"] <= 200:
        raise InvalidRequest("--limit must lie between 1 and 200.")
    found = route.get(
        "runs", RunsAnswer, database=options["database"], limit=options["limit"]
    )
    screen.terminal.tell(options, found.raw, runs.runs_lines(found.value))
    return DONE


def _show(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    tell_run(screen, options, route.get(run_path(options), RunAnswer))
    return DONE


def _watch(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    return follow(route, screen, options, route.get(run_path(options), RunAnswer).value)


def _verify_file_or_ledger(screen: Console, options: dict[str, Any]) -> int:
    if options["file"]:
        return tell_export(screen.terminal, options)
    return with_client(_verify, screen, options)


def _verify(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    found = route.get("ledger/verify", VerificationAnswer)
    told = [runs.verification_line(found.value)]
    screen.terminal.tell(options, found.raw, told)
    return DONE if found.value.intact else FAILED


def _export(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    return save_export(screen.terminal, options, route.lines("ledger/export"))
