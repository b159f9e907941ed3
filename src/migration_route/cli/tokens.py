"""The verb `token new`, shared by both command lines; it contacts no server."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import msgspec

from migration_route.core.credentials import id_of, new_entry, new_secret
from migration_route.core.enums import USER_ONLY_SCOPES, Scope
from migration_route.presentation.text.terminal import Terminal


def token_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="name of the token")
    scopes = [scope.value for scope in Scope if scope not in USER_ONLY_SCOPES]
    parser.add_argument(
        "--scope",
        action="append",
        choices=scopes,
        required=True,
        help="scope to grant; repeat for several",
    )
    parser.add_argument(
        "--token-database",
        action="append",
        metavar="ALIAS",
        help="limit the token to this database; repeat for several",
    )
    parser.add_argument(
        "--network",
        action="append",
        metavar="CIDR",
        help="limit the token to this network; repeat for several",
    )
    parser.add_argument(
        "--expires",
        metavar="YYYY-MM-DD",
        help="first day on which the token is no longer valid",
    )


def create_token(terminal: Terminal, options: dict[str, Any]) -> int:
    """Create a token; print its secret once, and the entry for TOKENS."""
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
        answer = {"secret": secret, "id": id_of(entry["sha256"]), "entry": entry}
        terminal.write(msgspec.json.encode(answer).decode())
        return 0
    terminal.write(f"Secret, shown only once:\n\n    {secret}\n")
    terminal.write('Add this entry to MIGRATION_ROUTE["TOKENS"]:\n')
    terminal.write(f"    {entry!r},\n")
    terminal.write(f"ID of the secret in the ledger: {id_of(entry['sha256'])}")
    return 0
