"""The verbs of `manage.py migration_route` that start and change no run."""

from __future__ import annotations

from argparse import SUPPRESS
from pathlib import Path
from typing import Any

import msgspec

from migration_route.access.actors import shell_actor
from migration_route.cli.arguments import (
    list_arguments,
    reason_text,
    run_argument,
    target_arguments,
)
from migration_route.cli.export_file import save_export, verify_export_file
from migration_route.cli.local import details_of, follow, plan_request, print_run, verb
from migration_route.cli.local.rehearsals import complete_plan_answer
from migration_route.cli.tokens import create_token, token_arguments
from migration_route.core import clock
from migration_route.core.enums import Mode, Phase
from migration_route.core.errors import InvalidRequest
from migration_route.ledger.queries import CREDENTIAL_SEARCH_LIMIT
from migration_route.planning.plan import Details, PlanRequest
from migration_route.presentation import serializers
from migration_route.presentation.serializers import with_approval_requirement
from migration_route.presentation.text import runs
from migration_route.presentation.text.exit_codes import exit_of_health, exit_of_status
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import ledger, permits
from migration_route.services import plans as looking
from migration_route.services import runs as services_runs
from migration_route.services.decisions import approval_requirement_for


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    nested = verbs.add_parser("ledger", help="verify or export the ledger").add_subparsers(
        dest="ledger_verb", required=True
    )
    help_text = "verify the integrity of the ledger"
    found = verb(nested, "verify", help_text, _verify, terminal)
    found.add_argument("--file", type=Path, help="verify an export instead of the ledger")
    help_text = "export the whole ledger as JSON Lines"
    found = verb(nested, "export", help_text, _export, terminal)
    found.add_argument(
        "--output", type=Path, metavar="FILE", help="write to this file instead of printing"
    )


def _verify(terminal: Terminal, options: dict[str, Any]) -> int:
    if options["file"]:
        return verify_export_file(terminal, options)
    found = serializers.verification_answer(ledger.verify(shell_actor()))
    terminal.tell(options, found, [runs.verification_line(found)])
    return 0 if found.intact else 1


def _export(terminal: Terminal, options: dict[str, Any]) -> int:
    return save_export(terminal, options, ledger.export(shell_actor()))


def add_health_verbs(verbs: Any, terminal: Terminal) -> None:
    help_text = "check the health signals for a plan; exit with 5 if a run would pause"
    target_arguments(verb(verbs, "health", help_text, _health, terminal), has_mode=False)


def _health(terminal: Terminal, options: dict[str, Any]) -> int:
    wanted = PlanRequest(database=options["database"], targets=tuple(options["targets"]))
    found = looking.health(wanted, shell_actor())
    answer = serializers.health_answer(found.database, found.moment, found.ignored)
    terminal.tell(options, answer, runs.health_lines(answer))
    return exit_of_health(answer)


def add_permits_verbs(verbs: Any, terminal: Terminal) -> None:
    found = verb(verbs, "permit", "issue a permit for one run of a plan", _permit, terminal)
    found.add_argument("fingerprint", help="fingerprint of the plan")
    found.add_argument(
        "--database",
        default="default",
        metavar="ALIAS",
        help="alias of the database (default: %(default)s)",
    )
    found.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="TARGET",
        help="app, app.name or app.zero (default: everything); repeat for several",
    )
    found.add_argument(
        "--mode",
        default=Mode.APPLY,
        choices=[each.value for each in Mode],
        help="how to carry out the steps (default: %(default)s)",
    )
    found.add_argument(
        "--phase",
        choices=[phase.value for phase in Phase],
        help="include only the steps of this deploy phase",
    )
    found.add_argument(
        "--reason", type=reason_text, default="", help="reason to record in the ledger"
    )
    found.add_argument(
        "--lifetime",
        default="1h",
        metavar="DURATION",
        help="how long the permit is valid (default: %(default)s)",
    )
    found.add_argument(
        "--rebuild-invalid-indexes",
        action="store_true",
        help="drop invalid indexes that a step creates again",
    )


def _permit(terminal: Terminal, options: dict[str, Any]) -> int:
    try:
        lifetime = clock.duration(options["lifetime"])
    except ValueError as error:
        raise InvalidRequest(f"--lifetime: {error}.") from error
    request = permits.PermitRequest(
        plan=PlanRequest(
            database=options["database"],
            targets=tuple(options["target"]),
            mode=Mode(options["mode"]),
            phase=Phase(options["phase"]) if options["phase"] else None,
        ),
        fingerprint=options["fingerprint"],
        reason=options["reason"],
        lifetime=lifetime,
        rebuild_invalid_indexes=options["rebuild_invalid_indexes"],
    )
    permit, text = permits.issue(request, shell_actor())
    if options["json"]:
        answer = {
            "permit": text,
            "id": permit.id,
            "database": permit.database,
            "fingerprint": permit.fingerprint,
            "issued_by": permit.issued_by,
            "expires": permit.expires,
        }
        terminal.write(msgspec.json.encode(answer).decode())
        return 0
    terminal.write(
        f"Permit for one run of this plan on {permit.database}, until {permit.expires}:\n"
    )
    terminal.write(f"    {text}\n")
    terminal.write(
        "Send it as 'Authorization: Bearer …' to the API, or paste it on the page"
    )
    terminal.write(
        "'Apply with a permit'. Treat it as a secret: anyone who has it can use it."
    )
    return 0


_EVERYTHING = Details(budget=600.0)


def add_reading_verbs(verbs: Any, terminal: Terminal) -> None:
    help_text = "show the pending migrations of every database"
    found = verb(verbs, "status", help_text, _status, terminal)
    found.add_argument(
        "--check",
        nargs="?",
        choices=("pending", "required"),
        const="pending",
        help="exit with 3 if migrations are pending; with 'required', only if the running "
        "code requires them",
    )
    help_text = "show a plan without executing it"
    target_arguments(verb(verbs, "plan", help_text, _plan, terminal))
    list_arguments(verb(verbs, "runs", "list the latest runs", _runs, terminal))
    run_argument(verb(verbs, "show", "show one run", _show, terminal))
    run_argument(verb(verbs, "watch", "follow a run to its end", _watch, terminal))
    hidden = verb(verbs, "plan-json", None, _plan_value, terminal)
    target_arguments(hidden)
    hidden.add_argument("--details", type=details_of, help=SUPPRESS)


def _status(terminal: Terminal, options: dict[str, Any]) -> int:
    answer = serializers.status_answer(services_runs.status(shell_actor()))
    terminal.tell(options, answer, runs.status_lines(answer))
    return exit_of_status(answer, options["check"])


def _plan(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, wanted = shell_actor(), plan_request(options)
    found = looking.plan(wanted, actor, _EVERYTHING)
    requirement = approval_requirement_for(wanted, found, actor, _EVERYTHING)
    answer = with_approval_requirement(complete_plan_answer(found), requirement)
    terminal.tell(options, answer, runs.plan_lines(answer))
    return 0


def _plan_value(terminal: Terminal, options: dict[str, Any]) -> int:
    """Print a plan for another process of this package, which runs older code."""
    found = looking.plan_with_details(plan_request(options), options["details"])
    terminal.write(msgspec.json.encode(found).decode())
    return 0


def _runs(terminal: Terminal, options: dict[str, Any]) -> int:
    limit = options["limit"]
    if not 0 < limit <= 200:
        raise InvalidRequest("--limit must be between 1 and 200.")
    found = services_runs.list_all(shell_actor(), database=options["database"], limit=limit)
    answer = serializers.runs_answer(found, limit=limit)
    terminal.tell(options, answer, runs.runs_lines(answer))
    return 0


def _show(terminal: Terminal, options: dict[str, Any]) -> int:
    print_run(terminal, options, services_runs.show(options["run"], shell_actor()))
    return 0


def _watch(terminal: Terminal, options: dict[str, Any]) -> int:
    return follow(terminal, options, services_runs.show(options["run"], shell_actor()))


def add_tokens_verbs(verbs: Any, terminal: Terminal) -> None:
    nested = verbs.add_parser("token", help="create or list tokens").add_subparsers(
        dest="token_verb", required=True
    )
    help_text = "create a token and print its secret once"
    token_arguments(verb(nested, "new", help_text, create_token, terminal))
    verb(nested, "list", "list the configured tokens and their last use", _list, terminal)


def _list(terminal: Terminal, options: dict[str, Any]) -> int:
    found = ledger.list_all(shell_actor())
    if options["json"]:
        terminal.write(msgspec.json.encode(found).decode())
        return 0
    for token in found:
        terminal.write(f"{token.name}: {', '.join(token.scopes)}")
        where = "every database" if token.databases is None else ", ".join(token.databases)
        since = "from any network" if token.networks is None else ", ".join(token.networks)
        until = f"until {token.expires}" if token.expires else "without expiry"
        state = f", {token.state}" if token.state != "good" else ""
        terminal.write(f"  on {where}, {since}, {until}{state}")
        for secret in token.secrets:
            which = "to be removed" if secret.is_old else "in use"
            used = (
                secret.last_use
                or f"not in the last {CREDENTIAL_SEARCH_LIMIT:,} entries of the ledger"
            )
            terminal.write(f"  secret {secret.id} ({which}), last used: {used}")
    if not found:
        terminal.write('No tokens: MIGRATION_ROUTE["TOKENS"] is empty.')
    return 0
