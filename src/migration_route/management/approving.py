"""The verbs of `manage.py migration_route` by which a person agrees to a run, or not."""

from __future__ import annotations

from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.commandline import reason_text
from migration_route.management.arguments import verb
from migration_route.management.ending import tell_run
from migration_route.management.terminal import Terminal
from migration_route.operations import approve


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    words = "agree to a run that waits for approval"
    found = verb(verbs, "approve", words, _approve, terminal)
    found.add_argument("run")
    found.add_argument("--reason", type=reason_text, default="")
    words = "turn down a run that waits for approval"
    found = verb(verbs, "reject", words, _reject, terminal)
    found.add_argument("run")
    found.add_argument("--reason", type=reason_text, default="", required=True)


def _approve(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, reason = on_this_host(), options["reason"]
    found = approve.approve(options["run"], actor, reason=reason)
    tell_run(terminal, options, found)
    return 0


def _reject(terminal: Terminal, options: dict[str, Any]) -> int:
    actor, reason = on_this_host(), options["reason"]
    found = approve.reject(options["run"], actor, reason=reason)
    tell_run(terminal, options, found)
    return 0
