"""`manage.py migration_route VERB`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from migration_route.core.errors import RouteError
from migration_route.core.subprocesses import require_same_settings
from migration_route.presentation.text.terminal import Terminal, pretty, problem_answer

FAMILIES = {
    "queries.add_reading_verbs": ("status", "plan", "runs", "show", "watch", "plan-json"),
    "queries.add_health_verbs": ("health",),
    "rehearsals.add_verbs": ("rehearse", "rehearsals", "run-rehearsal"),
    "runs.add_verbs": ("apply", "resolve"),
    "workers.add_run_verbs": ("run",),
    "runs.add_approving_verbs": ("approve", "reject"),
    "workers.add_worker_verbs": ("worker",),
    "runs.add_control_verbs": ("cancel", "pause", "resume", "terminate-blockers"),
    "queries.add_verbs": ("ledger",),
    "workers.add_delivery_verbs": ("deliver-notifications",),
    "queries.add_tokens_verbs": ("token",),
    "queries.add_permits_verbs": ("permit",),
}
"""The functions of `migration_route.cli.local` that add verbs, each with its verbs."""


class Command(BaseCommand):
    """Parses a verb, calls its function and prints the result."""

    help = "Plan, rehearse, approve, apply and audit migrations."
    requires_system_checks = ()
    _verb = ""  # the verb on the command line

    def run_from_argv(self, argv: list[str]) -> None:
        """Note the verb on the command line, so that only its module is imported."""
        self._verb = argv[2] if len(argv) > 2 else ""
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the verbs by family; for a verb on the command line, only its family."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        # Looked up when something is written: Django sets its streams later.
        terminal = Terminal(
            write=lambda text: self.stdout.write(text),
            write_error=lambda text: self.stderr.write(text),
        )
        families = [name for name, found in FAMILIES.items() if self._verb in found]
        for name in families or FAMILIES:
            module, _, function = name.partition(".")
            family = import_module(f"migration_route.cli.local.{module}")
            getattr(family, function)(verbs, terminal)

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the verb; a `RouteError` becomes its message and its exit code."""
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
