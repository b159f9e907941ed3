"""The door on a host: `manage.py migration_route VERB`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from migration_route.core.errors import RouteError
from migration_route.core.subprocesses import require_same_settings
from migration_route.presentation.text.terminal import Terminal, pretty, problem_answer

FAMILIES = {
    "queries.add_reading_verbs": ("status", "plan", "runs", "show", "watch", "plan-value"),
    "queries.add_moment_verbs": ("health",),
    "rehearsals.add_verbs": ("rehearse", "rehearsals", "rehearse-carry"),
    "runs.add_verbs": ("apply", "resolve"),
    "workers.add_verbs": ("run",),
    "runs.add_approving_verbs": ("approve", "reject"),
    "workers.add_working_verbs": ("work",),
    "runs.add_asking_verbs": ("cancel", "hold", "resume", "end-blockers"),
    "queries.add_verbs": ("ledger",),
    "workers.add_telling_verbs": ("deliver",),
    "queries.add_tokens_verbs": ("token",),
    "queries.add_permits_verbs": ("permit",),
}
"""The functions of `migration_route.cli.local` that add verbs, each with its verbs."""


class Command(BaseCommand):
    """Parses a verb, calls its operation and renders what comes back."""

    help = "Plans, applies and audits migrations on the guarded route."
    requires_system_checks = ()
    _asked = ""  # the verb that was typed

    def run_from_argv(self, argv: list[str]) -> None:
        """Note which verb was typed: the process of a run loads what that one needs."""
        self._asked = argv[2] if len(argv) > 2 else ""
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the verbs, family by family; of a verb that was typed, its family alone."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        # Looked up when something is said: Django puts its streams in place later.
        terminal = Terminal(
            write=lambda words: self.stdout.write(words),
            write_error=lambda words: self.stderr.write(words),
        )
        asked = [name for name, found in FAMILIES.items() if self._asked in found]
        for name in asked or FAMILIES:
            module, _, function = name.partition(".")
            family = import_module(f"migration_route.cli.local.{module}")
            getattr(family, function)(verbs, terminal)

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the verb; an error of the route becomes its message and its exit code."""
        del args
        try:
            require_same_settings()
            code = options["handler"](options)
        except RouteError as error:
            if options["json"]:
                self.stdout.write(pretty(problem_answer(error)))
                sys.exit(error.exit_code)
            raise CommandError(str(error), returncode=error.exit_code) from error
        if code:
            sys.exit(code)
