"""The verbs `token new` and `token list` of `manage.py migration_route`."""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.access.actor import on_this_host
from migration_route.ledger.reading import LOOKED_AT
from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.operations import tokens
from migration_route.rendering.tokens import tell_new_token, token_arguments


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add these verbs to the command."""
    nested = verbs.add_parser("token", help="tokens for machines").add_subparsers(
        dest="token_verb", required=True
    )
    about = "make a token: prints its secret once"
    token_arguments(verb(nested, "new", about, tell_new_token, terminal))
    verb(nested, "list", "the tokens of the settings, and their last use", _list, terminal)


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
            used = secret.last_use or f"not in the last {LOOKED_AT:,} entries of the ledger"
            terminal.write(f"  secret {secret.id} ({which}), last used: {used}")
    if not found:
        terminal.write('There are none: MIGRATION_ROUTE["TOKENS"] is empty.')
    return 0
