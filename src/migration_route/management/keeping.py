"""The verbs of `manage.py migration_route` about the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.operations import ledger
from migration_route.rendering import text
from migration_route.reporting import serialize
from migration_route.reporting.exports import save_export, tell_export


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
    found = serialize.verification_answer(ledger.verify(on_this_host()))
    terminal.tell(options, found, [text.verification_line(found)])
    return 0 if found.intact else 1


def _export(terminal: Terminal, options: dict[str, Any]) -> int:
    return save_export(terminal, options, ledger.export(on_this_host()))
