"""The verb `token new`, here and from afar: it asks no server."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import msgspec

from migration_route.core.credentials import id_of, new_entry, new_secret
from migration_route.core.enums import PEOPLE_ONLY, Scope
from migration_route.presentation.text.terminal import Terminal


def token_arguments(parser: ArgumentParser) -> None:
    """Let the verb take the words of the entry."""
    parser.add_argument("name")
    scopes = [scope.value for scope in Scope if scope not in PEOPLE_ONLY]
    parser.add_argument("--scope", action="append", choices=scopes, required=True)
    parser.add_argument("--token-database", action="append", metavar="ALIAS")
    parser.add_argument("--network", action="append", metavar="CIDR")
    parser.add_argument("--expires", metavar="YYYY-MM-DD")


def tell_new_token(terminal: Terminal, options: dict[str, Any]) -> int:
    """Make a token: tell its secret once, and the entry to paste."""
    secret = new_secret()
    entry = new_entry(
        secret,
        name=options["name"],
        scopes=options["scope"],
        databases=options["token_database"],
        networks=options["network"],
        expires=options["expires"] or "",
    )
    if options["json"]:
        words = {"secret": secret, "id": id_of(entry["sha256"]), "entry": entry}
        terminal.write(msgspec.json.encode(words).decode())
        return 0
    terminal.write(f"The secret, shown this once:\n\n    {secret}\n")
    terminal.write('The entry for MIGRATION_ROUTE["TOKENS"]:\n')
    terminal.write(f"    {entry!r},\n")
    terminal.write(f"The ledger names this secret {id_of(entry['sha256'])}.")
    return 0
