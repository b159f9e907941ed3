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

_LOOK = 5.0  # seconds between two looks; each of them waits for an end
_MANY = 200


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    about = "carry out a plan on a copy, or in place and undone, and tell what was seen"
    found = verb(verbs, "rehearse", about, _rehearse, terminal)
    rehearse_arguments(found)
    found.add_argument(
        "--clean", action="store_true", help="only remove what killed rehearsals have left"
    )
    about = "the last rehearsals, or one with its report"
    found = verb(verbs, "rehearsals", about, _show, terminal)
    found.add_argument("rehearsal", nargs="?")
    hidden = verb(verbs, "rehearse-carry", None, _carry, terminal)
    hidden.add_argument("rehearsal")
    hidden.add_argument("--and-back", action="store_true", help=SUPPRESS)


def told_plan(found: Plan) -> schemas.PlanAnswer:
    """Return a plan with its last rehearsal."""
    last = rehearsals.of_plan(found, shell_actor())
    answer = reporting.with_rehearsal(plan_answer(found), last)
    return with_opening(answer, launch.next_opening(found.database))


def _rehearse(terminal: Terminal, options: dict[str, Any]) -> int:
    actor = shell_actor()
    if options["clean"]:
        cleaned = rehearsals.clean(actor)
        lines = [f"removed what {record.id} has left" for record in cleaned]
        left = reporting.rehearsals_answer(cleaned, limit=_MANY)
        terminal.tell(options, left, lines or ["Nothing was left."])
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
            and_back=options["and_back"],
            in_place=options["in_place"],
            reason=options["reason"],
        ),
        actor,
    )
    while record.is_active and not options["no_wait"]:
        record = rehearsals.wait(record.id, actor, seconds=_LOOK)
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


def _carry(terminal: Terminal, options: dict[str, Any]) -> int:
    del terminal  # what it has to say is on record
    record = rehearsals.carry(options["rehearsal"], and_back=options["and_back"])
    return 1 if record.state is RehearsalState.FAILED else 0
