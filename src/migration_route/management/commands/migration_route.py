"""The door on a host: `manage.py migration_route VERB`."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from migration_route.errors import RouteError
from migration_route.management import (
    applying,
    approving,
    asking,
    keeping,
    moment,
    permits,
    reading,
    rehearsing,
    telling,
    tokens,
    working,
)
from migration_route.management.terminal import Terminal, pretty
from migration_route.rendering.problems import problem_answer

_FAMILIES = (
    reading,
    moment,
    rehearsing,
    applying,
    approving,
    working,
    asking,
    keeping,
    telling,
    tokens,
    permits,
)


class Command(BaseCommand):
    """Parses a verb, calls its operation and renders what comes back."""

    help = "Plans, applies and audits migrations on the guarded route."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the verbs, family by family."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        # Looked up when something is said: Django puts its streams in place later.
        terminal = Terminal(
            write=lambda words: self.stdout.write(words),
            write_error=lambda words: self.stderr.write(words),
        )
        for family in _FAMILIES:
            family.add_verbs(verbs, terminal)

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the verb; an error of the route becomes its message and its exit code."""
        del args
        try:
            code = options["handler"](options)
        except RouteError as error:
            if options["json"]:
                self.stdout.write(pretty(problem_answer(error)))
                sys.exit(error.exit_code)
            raise CommandError(str(error), returncode=error.exit_code) from error
        if code:
            sys.exit(code)
