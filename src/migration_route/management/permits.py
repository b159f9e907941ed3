"""The verb `permit` of `manage.py migration_route`."""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route import clock
from migration_route.access.actor import on_this_host
from migration_route.commandline import reason_text
from migration_route.errors import InvalidRequest
from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.operations import permits
from migration_route.planning.plan import PlanRequest
from migration_route.vocabulary import Mode, Phase


def add_verbs(verbs: Any, terminal: Terminal) -> None:
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
    permit, text = permits.issue(request, on_this_host())
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
