"""The verbs `token new` and `token list` of `manage.py migration_route`."""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.access.actor import on_this_host
from migration_route.access.tokens import digest_of, id_of, new_secret
from migration_route.conf import read_settings
from migration_route.errors import InvalidRequest
from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.operations import tokens
from migration_route.vocabulary import PEOPLE_ONLY, Scope


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    nested = verbs.add_parser("token", help="tokens for machines").add_subparsers(
        dest="token_verb", required=True
    )
    found = verb(nested, "new", "make a token: prints its secret once", _new, terminal)
    found.add_argument("name")
    scopes = [scope.value for scope in Scope if scope not in PEOPLE_ONLY]
    found.add_argument("--scope", action="append", choices=scopes, required=True)
    found.add_argument("--token-database", action="append", metavar="ALIAS")
    found.add_argument("--network", action="append", metavar="CIDR")
    found.add_argument("--expires", metavar="YYYY-MM-DD")
    verb(nested, "list", "the tokens of the settings, and their last use", _list, terminal)


def _new(terminal: Terminal, options: dict[str, Any]) -> int:
    secret = new_secret()
    entry: dict[str, Any] = {
        "name": options["name"],
        "sha256": digest_of(secret),
        "scopes": sorted(set(options["scope"])),
    }
    if options["token_database"]:
        entry["databases"] = options["token_database"]
    if options["network"]:
        entry["networks"] = options["network"]
    if options["expires"]:
        entry["expires"] = options["expires"]
    if problems := read_settings({"TOKENS": [entry]}).problems:
        raise InvalidRequest(problems[0].removeprefix("TOKENS[0]: "))
    if options["json"]:
        words = {"secret": secret, "id": id_of(entry["sha256"]), "entry": entry}
        terminal.write(msgspec.json.encode(words).decode())
        return 0
    terminal.write(f"The secret, shown this once:\n\n    {secret}\n")
    terminal.write('The entry for MIGRATION_ROUTE["TOKENS"]:\n')
    terminal.write(f"    {entry!r},\n")
    terminal.write(f"The ledger names this secret {id_of(entry['sha256'])}.")
    return 0


def _list(terminal: Terminal, options: dict[str, Any]) -> int:
    found = tokens.list_all(on_this_host())
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
            used = secret.last_use or "never, as far as the ledger tells"
            terminal.write(f"  secret {secret.id} ({which}), last used: {used}")
    if not found:
        terminal.write('There are none: MIGRATION_ROUTE["TOKENS"] is empty.')
    return 0
