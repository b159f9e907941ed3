"""The verbs that need a shell on the host: workers, permits, the list of tokens, and those
that other processes of this package call.

Each function imports its services, so that the process of a run does not load the others.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentTypeError
from functools import partial
from pathlib import Path

import msgspec
from django.conf import settings

from migration_route.access.actors import shell_actor
from migration_route.cli.backend import Backend
from migration_route.cli.local import plan_request
from migration_route.cli.parser import (
    DATABASE,
    MODE,
    PHASE,
    PLAN,
    REASON,
    REBUILD_INVALID_INDEXES,
    RUN,
    Connect,
    Options,
    argument,
    declare,
    flag,
)
from migration_route.cli.terminal import Terminal
from migration_route.cli.verbs import (
    MOST_REHEARSALS,
    VERBS,
    plan_arguments,
    verify_ledger,
)
from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.conf.databases import find_target
from migration_route.core import clock, subprocesses
from migration_route.core.enums import RehearsalState
from migration_route.core.errors import InvalidRequest
from migration_route.planning.plan import Details
from migration_route.presentation import schemas
from migration_route.presentation.text.exit_codes import DONE, FAILED, exit_of_run
from migration_route.presentation.text.runs import run_lines

GROUPS = {
    "ledger": "verify or export the ledger, or save the evidence of a run",
    "token": "create or list tokens",
}

LOCAL_VERBS = {**VERBS}
"""The verbs of `manage.py migration_route`, by name. Those without a help text are called
by other processes of this package."""

verb = partial(declare, LOCAL_VERBS)


def connect() -> Backend:
    from migration_route.cli.local.backend import LocalBackend

    return LocalBackend()


@verb(
    "rehearse",
    VERBS["rehearse"].help,
    *VERBS["rehearse"].arguments,
    flag("--clean", "only remove what killed rehearsals left behind"),
)
def _rehearse(connect: Connect, terminal: Terminal, options: Options) -> int:
    from migration_route.presentation.serializers import rehearsals_answer
    from migration_route.services.rehearsals import remove_leftovers

    if not options["clean"]:
        return VERBS["rehearse"].run(connect, terminal, options)
    cleaned = remove_leftovers(shell_actor())
    lines = [f"removed what {record.id} left behind" for record in cleaned]
    answer = rehearsals_answer(cleaned, limit=MOST_REHEARSALS)
    terminal.tell(schemas.to_json(answer), lines or ["Nothing to remove."])
    return DONE


@verb("ledger verify", VERBS["ledger verify"].help, *VERBS["ledger verify"].arguments)
def _verify(connect: Connect, terminal: Terminal, options: Options) -> int:
    """Verify with the keys of the settings, with which Django verifies signatures too."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return verify_ledger(connect, terminal, options, keys=keys)


@verb(
    "run",
    "execute a queued run in this process",
    RUN,
    argument("--claim", default="", help=SUPPRESS),
    flag("--release-if-waiting", SUPPRESS),
)
def _run(_: Connect, terminal: Terminal, options: Options) -> int:
    from migration_route.presentation.serializers import run_answer
    from migration_route.services.execute import execute

    run = options["run"]
    found = execute(
        run,
        reexec=lambda token: subprocesses.reexec(
            run, token, command_line(route_settings().command)
        ),
        claim=options["claim"],
        release_if_waiting=options["release_if_waiting"],
    )
    answer = run_answer(found)
    terminal.tell(schemas.to_json(answer), run_lines(answer))
    return exit_of_run(answer)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not an integer above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 < found <= 3600:
        raise ArgumentTypeError("it must be above 0 and at most 3600 seconds")
    return found


@verb(
    "worker",
    "execute queued runs until SIGTERM",
    argument(
        "--database",
        action="append",
        default=[],
        metavar="ALIAS",
        help="execute only runs on this database; repeat for several",
    ),
    flag("--once", "exit when no run is due"),
    argument("--max-runs", type=_count, metavar="N", help="exit after this many runs"),
    argument(
        "--every",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between two checks of the queue (default: 1)",
    ),
    argument(
        "--health-file",
        type=Path,
        metavar="PATH",
        help="touch this file on every successful check, for a probe",
    ),
)
def _worker(_: Connect, terminal: Terminal, options: Options) -> int:
    from migration_route.services import queue_worker

    for alias in options["database"]:
        find_target(alias)
    started = queue_worker.run_worker(
        queue_worker.QueueWorkerOptions(
            every=options["every"],
            most_runs=options["max_runs"],
            once=options["once"],
            databases=tuple(options["database"]),
            alive=options["health_file"],
        ),
        say=lambda line: None if terminal.is_json else terminal.write(line),
    )
    summary = f"Started {len(started)} run{'' if len(started) == 1 else 's'}."
    terminal.tell(schemas.to_json(schemas.WorkerAnswer(begun=started)), [summary])
    return DONE


@verb("token list", "list the configured tokens and their last use")
def _list_tokens(_: Connect, terminal: Terminal, options: Options) -> int:
    from migration_route.ledger.queries import CREDENTIAL_SEARCH_LIMIT
    from migration_route.services import ledger

    del options
    found = ledger.list_all(shell_actor())
    if terminal.is_json:
        terminal.write(msgspec.json.encode(found).decode())
        return DONE
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
    return DONE


@verb(
    "permit",
    "issue a permit for one run of a plan",
    argument("fingerprint", help="fingerprint of the plan"),
    DATABASE,
    argument(
        "--target",
        action="append",
        default=[],
        metavar="TARGET",
        dest="targets",
        help="app, app.name or app.zero (default: everything); repeat for several",
    ),
    MODE,
    PHASE,
    REASON,
    argument(
        "--lifetime",
        default="1h",
        metavar="DURATION",
        help="how long the permit is valid (default: %(default)s)",
    ),
    REBUILD_INVALID_INDEXES,
)
def _permit(_: Connect, terminal: Terminal, options: Options) -> int:
    from migration_route.services import permits

    try:
        lifetime = clock.duration(options["lifetime"])
    except ValueError as error:
        raise InvalidRequest(f"--lifetime: {error}.") from error
    request = permits.PermitRequest(
        plan=plan_request(plan_arguments(options)),
        fingerprint=options["fingerprint"],
        reason=options["reason"],
        lifetime=lifetime,
        rebuild_invalid_indexes=options["rebuild_invalid_indexes"],
    )
    permit, text = permits.issue(request, shell_actor())
    if terminal.is_json:
        answer = {
            "permit": text,
            "id": permit.id,
            "database": permit.database,
            "fingerprint": permit.fingerprint,
            "issued_by": permit.issued_by,
            "expires": permit.expires,
        }
        terminal.write(msgspec.json.encode(answer).decode())
        return DONE
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
    return DONE


def _details(text: str) -> Details:
    return msgspec.json.decode(text, type=Details)


@verb("plan-json", None, *PLAN, argument("--details", type=_details, help=SUPPRESS))
def _plan_json(_: Connect, terminal: Terminal, options: Options) -> int:
    """Print a plan for another process of this package, which runs older code."""
    from migration_route.services.plans import plan_with_details

    found = plan_with_details(plan_request(plan_arguments(options)), options["details"])
    terminal.write(msgspec.json.encode(found).decode())
    return DONE


@verb(
    "run-rehearsal",
    None,
    argument("rehearsal"),
    flag("--round-trip", SUPPRESS),
)
def _run_rehearsal(_: Connect, terminal: Terminal, options: Options) -> int:
    from migration_route.services.rehearsals import execute_rehearsal

    del terminal  # the result is stored in the ledger's database
    record = execute_rehearsal(options["rehearsal"], round_trip=options["round_trip"])
    return FAILED if record.state is RehearsalState.FAILED else DONE


@verb(
    "deliver-notifications",
    None,
    argument("words", help="name of the file for its output"),
)
def _deliver_notifications(_: Connect, terminal: Terminal, options: Options) -> int:
    from migration_route.services.notifications import drain

    del terminal
    drain(options["words"])
    return DONE
