"""Read-only verbs of the remote client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from migration_route.cli.arguments import list_arguments, run_argument, target_arguments
from migration_route.cli.export_file import save_export, verify_export_file
from migration_route.cli.remote.arguments import FOLLOWING, run_path, verb, with_client
from migration_route.cli.remote.client import RouteClient
from migration_route.cli.remote.follow import Console, follow, print_run
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
    found = verb(verbs, "status", "show the pending migrations of every database", _status)
    found.add_argument(
        "--check",
        nargs="?",
        choices=("pending", "required"),
        const="pending",
        help="exit with 3 if migrations are pending; with 'required', only if the running "
        "code requires them",
    )
    target_arguments(verb(verbs, "plan", "show a plan without executing it", _plan))
    help_text = "check the health signals for a plan; exit with 5 if a run would pause"
    target_arguments(verb(verbs, "health", help_text, _health), has_mode=False)
    list_arguments(verb(verbs, "runs", "list the latest runs", _runs))
    run_argument(verb(verbs, "show", "show one run", _show))
    help_text = "follow a run to its end"
    run_argument(verb(verbs, "watch", help_text, _watch, patience=FOLLOWING))


def add_ledger_verbs(verbs: Any) -> None:
    nested = verbs.add_parser("ledger", help="verify or export the ledger").add_subparsers(
        dest="ledger_verb", required=True
    )
    found = verb(nested, "verify", "verify the integrity of the ledger", _verify)
    found.add_argument("--file", type=Path, help="verify an export instead of the ledger")
    found.set_defaults(handler=_verify_file_or_ledger)
    help_text = "export the whole ledger as JSON Lines"
    found = verb(nested, "export", help_text, _export, patience=30.0)
    found.add_argument(
        "--output", type=Path, metavar="FILE", help="write to this file instead of printing"
    )


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
        raise InvalidRequest("--limit must be between 1 and 200.")
    found = route.get(
        "runs", RunsAnswer, database=options["database"], limit=options["limit"]
    )
    screen.terminal.tell(options, found.raw, runs.runs_lines(found.value))
    return DONE


def _show(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    print_run(screen, options, route.get(run_path(options), RunAnswer))
    return DONE


def _watch(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    return follow(route, screen, options, route.get(run_path(options), RunAnswer).value)


def _verify_file_or_ledger(screen: Console, options: dict[str, Any]) -> int:
    if options["file"]:
        return verify_export_file(screen.terminal, options)
    return with_client(_verify, screen, options)


def _verify(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    found = route.get("ledger/verify", VerificationAnswer)
    screen.terminal.tell(options, found.raw, [runs.verification_line(found.value)])
    return DONE if found.value.intact else FAILED


def _export(route: RouteClient, screen: Console, options: dict[str, Any]) -> int:
    return save_export(screen.terminal, options, route.lines("ledger/export"))
