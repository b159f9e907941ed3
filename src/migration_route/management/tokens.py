"""The verb `token new` of `manage.py migration_route`."""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.access.tokens import digest_of, new_secret
from migration_route.conf import read_settings
from migration_route.errors import InvalidRequest
from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.vocabulary import PEOPLE_ONLY, Scope


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    nested = verbs.add_parser("token", help="tokens for machines").add_subparsers(
        dest="token_verb", required=True
    )
    found = verb(nested, "new", "make a token: prints its secret once", _new, terminal)
    found.add_argument("name")
    scopes = [scope.value for scope in Scope if scope not in PEOPLE_ONLY]
    found.add_argument("--scope", action="append", choices=scopes, required=True)
    found.add_argument("--token-database", action="append", metavar="ALIAS")
    found.add_argument("--expires", metavar="YYYY-MM-DD")


def _new(terminal: Terminal, options: dict[str, Any]) -> int:
    secret = new_secret()
    entry: dict[str, Any] = {
        "name": options["name"],
        "sha256": digest_of(secret),
        "scopes": sorted(set(options["scope"])),
    }
    if options["token_database"]:
        entry["databases"] = options["token_database"]
    if options["expires"]:
        entry["expires"] = options["expires"]
    if problems := read_settings({"TOKENS": [entry]}).problems:
        raise InvalidRequest(problems[0].removeprefix("TOKENS[0]: "))
    if options["json"]:
        terminal.write(msgspec.json.encode({"secret": secret, "entry": entry}).decode())
        return 0
    terminal.write(f"The secret, shown this once:\n\n    {secret}\n")
    terminal.write('The entry for MIGRATION_ROUTE["TOKENS"]:\n')
    terminal.write(f"    {entry!r},")
    return 0
