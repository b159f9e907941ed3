"""The verbs of `manage.py migration_route` that change nothing.

The verbs of `manage.py migration_route` about the ledger.

The verb `health` of `manage.py migration_route`.

The verb `permit` of `manage.py migration_route`.

The verbs `token new` and `token list` of `manage.py migration_route`.
"""

from __future__ import annotations

from argparse import SUPPRESS
from pathlib import Path
from typing import Any

import msgspec

from migration_route.access.actors import shell_actor
from migration_route.cli.arguments import reason_text, target_arguments
from migration_route.cli.export_file import save_export, tell_export
from migration_route.cli.local import details_of, follow, plan_request, tell_run, verb
from migration_route.cli.local.rehearsals import told_plan
from migration_route.cli.tokens import tell_new_token, token_arguments
from migration_route.core import clock
from migration_route.core.enums import Mode, Phase
from migration_route.core.errors import InvalidRequest
from migration_route.ledger.queries import LOOKED_AT
from migration_route.planning.plan import Details, PlanRequest
from migration_route.presentation import serializers
from migration_route.presentation.serializers import with_demand
from migration_route.presentation.text import runs
from migration_route.presentation.text.exit_codes import exit_of_health, exit_of_status
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import ledger, permits
from migration_route.services import plans as looking
from migration_route.services import runs as services_runs
from migration_route.services.decisions import approval_requirement_for


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    nested = verbs.add_parser("ledger", help="the ledger").add_subparsers(
        dest="ledger_verb", required=True
    )
    found = verb(nested, "verify", "is the ledger as it was written?", _verify, terminal)
    found.add_argument("--file", type=Path, help="verify an export, not the ledger itself")
    found = verb(nested, "export", "the whole ledger as JSON Lines", _export, terminal)
    found.add_argument("--output", type=Path, metavar="FILE", help="left out: print it")


def _verify(terminal: Terminal, options: dict[str, Any]) -> int:
    if options["file"]:
        return tell_export(terminal, options)
    found = serializers.verification_answer(ledger.verify(shell_actor()))
    terminal.tell(options, found, [runs.verification_line(found)])
    return 0 if found.intact else 1


def _export(terminal: Terminal, options: dict[str, Any]) -> int:
    return save_export(terminal, options, ledger.export(shell_actor()))


def add_moment_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    words = "is now a good moment? exit with 5 if not"
    target_arguments(verb(verbs, "health", words, _health, terminal), has_mode=False)


def _health(terminal: Terminal, options: dict[str, Any]) -> int:
    """Tell whether now is a good moment for the plan to these targets."""
    wanted = PlanRequest(database=options["database"], targets=tuple(options["targets"]))
    found = looking.health(wanted, shell_actor())
    answer = serializers.health_answer(found.database, found.moment, found.ignored)
    terminal.tell(options, answer, runs.health_lines(answer))
    return exit_of_health(answer)


def add_permits_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    found = verb(verbs, "permit", "give the right to one run of a plan", _permit, terminal)
    found.add_argument("fingerprint", help="of the plan that was read")
    found.add_argument("--database", default="default", metavar="ALIAS")
    found.add_argument("--target", action="append", default=[], metavar="TARGET")
    found.add_argument("--mode", default=Mode.APPLY, choices=[each.value for each in Mode])
    found.add_argument("--phase", choices=[phase.value for phase in Phase])
    found.add_argument("--reason", type=reason_text, default="")
    found.add_argument("--lifetime", default="1h", metavar="DURATION")
    found.add_argument("--rebuild-invalid-indexes", action="store_true")


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
        words = {
            "permit": text,
            "id": permit.id,
            "database": permit.database,
            "fingerprint": permit.fingerprint,
            "issued_by": permit.issued_by,
            "expires": permit.expires,
        }
        terminal.write(msgspec.json.encode(words).decode())
        return 0
    terminal.write(
        f"For one run of this plan on {permit.database}, until {permit.expires}:\n"
    )
    terminal.write(f"    {text}\n")
    terminal.write(
        "Send it as 'Authorization: Bearer …' to the API, or paste it on the page"
    )
    terminal.write(
        "'Apply with a permit'. Whoever has it can use it: hand it over as a secret."
    )
    return 0


_EVERYTHING = Details(budget=600.0)


def add_reading_verbs(verbs: Any, terminal: Terminal) -> None:
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
    answer = serializers.status_answer(services_runs.status(shell_actor()))
    terminal.tell(options, answer, runs.status_lines(answer))
    return exit_of_status(answer, options["check"])


def _plan(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, wanted = shell_actor(), plan_request(options)
    found = looking.plan(wanted, actor, _EVERYTHING)
    demand = approval_requirement_for(wanted, found, actor, _EVERYTHING)
    answer = with_demand(told_plan(found), demand)
    terminal.tell(options, answer, runs.plan_lines(answer))
    return 0


def _plan_value(terminal: Terminal, options: dict[str, Any]) -> int:
    """Give a plan to another process of the route, which holds older code."""
    found = looking.planned(plan_request(options), options["details"])
    terminal.write(msgspec.json.encode(found).decode())
    return 0


def _runs(terminal: Terminal, options: dict[str, Any]) -> int:
    limit = options["limit"]
    if not 0 < limit <= 200:
        raise InvalidRequest("--limit must lie between 1 and 200.")
    found = services_runs.list_all(shell_actor(), database=options["database"], limit=limit)
    answer = serializers.runs_answer(found, limit=limit)
    terminal.tell(options, answer, runs.runs_lines(answer))
    return 0


def _show(terminal: Terminal, options: dict[str, Any]) -> int:
    tell_run(terminal, options, services_runs.show(options["run"], shell_actor()))
    return 0


def _watch(terminal: Terminal, options: dict[str, Any]) -> int:
    return follow(terminal, options, services_runs.show(options["run"], shell_actor()))


def add_tokens_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    nested = verbs.add_parser("token", help="tokens for machines").add_subparsers(
        dest="token_verb", required=True
    )
    about = "make a token: prints its secret once"
    token_arguments(verb(nested, "new", about, tell_new_token, terminal))
    verb(nested, "list", "the tokens of the settings, and their last use", _list, terminal)


def _list(terminal: Terminal, options: dict[str, Any]) -> int:
    found = ledger.list_all(shell_actor())
    if options["json"]:
        terminal.write(msgspec.json.encode(found).decode())
        return 0
    for token in found:
        terminal.write(f"{token.name}: {', '.join(token.scopes)}")
        where = "every database" if token.databases is None else ", ".join(token.databases)
        since = "from everywhere" if token.networks is None else ", ".join(token.networks)
        until = f"until {token.expires}" if token.expires else "for ever"
        state = f", {token.state}" if token.state != "good" else ""
        terminal.write(f"  on {where}, {since}, {until}{state}")
        for secret in token.secrets:
            which = "to be taken out" if secret.is_old else "in use"
            used = secret.last_use or f"not in the last {LOOKED_AT:,} entries of the ledger"
            terminal.write(f"  secret {secret.id} ({which}), last used: {used}")
    if not found:
        terminal.write('There are none: MIGRATION_ROUTE["TOKENS"] is empty.')
    return 0
