"""The verb `token new` of `manage.py migration_route`."""

from __future__ import annotations

from typing import Any

from migration_route.management.arguments import verb
from migration_route.management.terminal import Terminal
from migration_route.rendering.tokens import tell_new_token, token_arguments


def add_verbs(verbs: Any, terminal: Terminal) -> None:
    """Add this verb to the command."""
    nested = verbs.add_parser("token", help="tokens for machines").add_subparsers(
        dest="token_verb", required=True
    )
    about = "make a token: prints its secret once"
    token_arguments(verb(nested, "new", about, tell_new_token, terminal))
