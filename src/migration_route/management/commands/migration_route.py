"""`manage.py migration_route VERB`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from migration_route.cli.colors import colored, has_colors
from migration_route.cli.local.verbs import GROUPS, LOCAL_VERBS, connect
from migration_route.cli.parser import add_verbs
from migration_route.cli.terminal import Terminal
from migration_route.core.errors import RouteError
from migration_route.core.subprocesses import require_same_settings


class Command(BaseCommand):
    """Parses a verb, calls its function and prints the result."""

    help = "Plan, rehearse, approve, apply and audit migrations."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        add_verbs(parser, LOCAL_VERBS, groups=GROUPS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the verb; a `RouteError` becomes its message and its exit code."""
        del args
        terminal = Terminal(
            command="manage.py migration_route",
            output=self.stdout.write,
            errors=self.stderr.write,
            is_json=options["json"],
            paint=self._paint(options),
        )
        # While a user thinks about a plan, the code on disk may change.
        is_immediate = options["verb"] == "apply" and options["yes"]
        try:
            require_same_settings()
            with forked_process() if is_immediate else nullcontext():
                code = options["handler"](connect, terminal, options)
        except RouteError as error:
            if not terminal.is_json:
                raise CommandError(str(error), returncode=error.exit_code) from error
            terminal.tell_problem(error)
            code = error.exit_code
        if code:
            sys.exit(code)

    def _paint(self, options: dict[str, Any]) -> Callable[[str], str]:
        """Return what colors a line, by the options of every Django command."""
        is_forced = options["force_color"]
        is_wanted = is_forced or (not options["no_color"] and has_colors(sys.stdout))
        return colored if is_wanted and not options["json"] else str


def forked_process() -> AbstractContextManager[None]:
    from migration_route.services.execute import run_in_fork

    return run_in_fork(run_verb)


def run_verb(arguments: list[str]) -> int:
    """Run the command line in a fork of this process; return its exit code."""
    sys.argv[1:] = ["migration_route", *arguments]
    try:
        Command().run_from_argv(sys.argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
