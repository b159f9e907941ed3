"""The verbs `rehearse` and `rehearsals` of `manage.py migration_route`."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Any

from migration_route.access.actors import shell_actor
from migration_route.cli.arguments import rehearse_arguments
from migration_route.cli.local import verb
from migration_route.core.enums import CopyKind, Phase, RehearsalState
from migration_route.planning.plan import Plan, PlanRequest
from migration_route.presentation import rehearsal_serializers as reporting
from migration_route.presentation import schemas
from migration_route.presentation.serializers import plan_answer, with_opening
from migration_route.presentation.text.exit_codes import exit_of_rehearsal
from migration_route.presentation.text.rehearsals import rehearsal_lines, rehearsals_lines
from migration_route.presentation.text.terminal import Terminal
from migration_route.services import launch, plans, rehearsals

_POLL = 5.0  # seconds that each poll waits for the end
_MANY = 200


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    help_text = "rehearse a plan on a copy, or in place with a rollback, and print a report"
    found = verb(verbs, "rehearse", help_text, _rehearse, terminal)
    rehearse_arguments(found)
    found.add_argument(
        "--clean",
        action="store_true",
        help="only remove what killed rehearsals left behind",
    )
    help_text = "list the latest rehearsals, or show the report of one"
    found = verb(verbs, "rehearsals", help_text, _show, terminal)
    found.add_argument("rehearsal", nargs="?", help="ID of a rehearsal")
    hidden = verb(verbs, "run-rehearsal", None, _execute, terminal)
    hidden.add_argument("rehearsal")
    hidden.add_argument("--round-trip", action="store_true", help=SUPPRESS)


def complete_plan_answer(found: Plan) -> schemas.PlanAnswer:
    """Return a plan with its last rehearsal and the earliest start of its run."""
    last = rehearsals.last_rehearsal_of(found, shell_actor())
    answer = reporting.with_rehearsal(plan_answer(found), last)
    return with_opening(answer, launch.next_opening(found.database))


def _rehearse(terminal: Terminal, options: dict[str, Any]) -> int:
    actor = shell_actor()
    if options["clean"]:
        cleaned = rehearsals.remove_leftovers(actor)
        lines = [f"removed what {record.id} left behind" for record in cleaned]
        left = reporting.rehearsals_answer(cleaned, limit=_MANY)
        terminal.tell(options, left, lines or ["Nothing to remove."])
        return 0
    targets = tuple(options["targets"])
    phase = Phase(options["phase"]) if options["phase"] else None
    request = PlanRequest(database=options["database"], targets=targets, phase=phase)
    fingerprint = options["fingerprint"] or plans.plan(request, actor).fingerprint
    record = rehearsals.rehearse(
        rehearsals.RehearseRequest(
            database=options["database"],
            targets=targets,
            phase=phase,
            fingerprint=fingerprint,
            kind=CopyKind.DATA if options["data"] else CopyKind.SCHEMA,
            round_trip=options["round_trip"],
            in_place=options["in_place"],
            reason=options["reason"],
        ),
        actor,
    )
    while record.is_active and not options["no_wait"]:
        record = rehearsals.wait(record.id, actor, seconds=_POLL)
    answer = reporting.rehearsal_answer(record)
    terminal.tell(options, answer, rehearsal_lines(answer))
    return exit_of_rehearsal(answer)


def _show(terminal: Terminal, options: dict[str, Any]) -> int:
    actor = shell_actor()
    if options["rehearsal"]:
        record = rehearsals.show(options["rehearsal"], actor)
        answer = reporting.rehearsal_answer(record)
        terminal.tell(options, answer, rehearsal_lines(answer))
        return 0
    found = reporting.rehearsals_answer(rehearsals.list_all(actor), limit=_MANY)
    terminal.tell(options, found, rehearsals_lines(found))
    return 0


def _execute(terminal: Terminal, options: dict[str, Any]) -> int:
    del terminal  # the result is stored in the ledger's database
    record = rehearsals.execute_rehearsal(
        options["rehearsal"], round_trip=options["round_trip"]
    )
    return 1 if record.state is RehearsalState.FAILED else 0
