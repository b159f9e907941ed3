"""`migration-route VERB`: the verbs of the command, over the API."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from migration_route import __version__
from migration_route.cli.remote import apply, queries
from migration_route.cli.remote.arguments import local_verb
from migration_route.cli.remote.errors import ProblemResponse
from migration_route.cli.remote.follow import Console
from migration_route.cli.tokens import create_token, token_arguments
from migration_route.core.errors import RouteError
from migration_route.presentation import schemas
from migration_route.presentation.text.exit_codes import FAILED, INTERRUPTED
from migration_route.presentation.text.terminal import pretty, problem_answer, problem_line


def parser() -> ArgumentParser:
    found = ArgumentParser(
        prog="migration-route",
        description="Plan, rehearse, apply and audit the migrations of a remote project.",
        allow_abbrev=False,
    )
    found.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = found.add_subparsers(dest="verb", required=True, metavar="VERB")
    queries.add_verbs(verbs)
    apply.add_rehearsing_verbs(verbs)
    apply.add_applying_verbs(verbs)
    apply.add_verbs(verbs)
    queries.add_ledger_verbs(verbs)
    nested = verbs.add_parser("token", help="create a token").add_subparsers(
        dest="token_verb", required=True
    )
    help_text = "create a token and print its secret once"
    token_arguments(local_verb(nested, "new", help_text, _new_token))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code."""
    options = vars(parser().parse_args(arguments))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    screen = Console(is_json=options["json"])
    try:
        return _run_verb(screen, options)
    except KeyboardInterrupt:
        screen.write_error("\nInterrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the pipe has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run_verb(screen: Console, options: dict[str, Any]) -> int:
    try:
        code: int = options["handler"](screen, options)
    except ProblemResponse as error:
        _print_problem(screen, options, error.raw, str(error))
        return error.exit_code
    except RouteError as error:
        problem = problem_answer(error)
        _print_problem(screen, options, schemas.to_json(problem), problem_line(problem))
        return error.exit_code
    return code


def _print_problem(screen: Console, options: dict[str, Any], raw: bytes, text: str) -> None:
    if options["json"]:
        screen.write(pretty(raw))
    else:
        screen.write_error(text)


def _new_token(screen: Console, options: dict[str, Any]) -> int:
    return create_token(screen.terminal, options)
