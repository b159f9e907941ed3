"""Declarations of verbs and of their arguments, and the parser that they make."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NoReturn

from migration_route.cli.backend import Backend
from migration_route.cli.terminal import Terminal
from migration_route.core.enums import Mode, Phase
from migration_route.core.errors import InvalidRequest
from migration_route.ledger.hashchain import ChainHead
from migration_route.presentation.schemas.requests import LONGEST_REASON
from migration_route.presentation.text import exit_codes

Argument = Callable[[ArgumentParser], object]
"""Adds an argument to a parser."""


def argument(*names: str, **options: Any) -> Argument:
    """Return an argument; the options are those of argparse."""
    return lambda parser: parser.add_argument(*names, **options)


def flag(name: str, help_text: str) -> Argument:
    return argument(name, action="store_true", help=help_text)


Options = dict[str, Any]
Connect = Callable[[], Backend]
"""Returns the backend. A verb that does not call it contacts no project."""

Handler = Callable[[Connect, Terminal, Options], int]
"""Runs a verb with its options; returns the exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb, its arguments and the function that runs it."""

    help: str | None  # None: not listed; other processes of this package call it
    arguments: tuple[Argument, ...]
    run: Handler
    is_offline: bool = False
    is_for_users: bool = False  # the API refuses it with a token
    patience: float = 0.0  # seconds of retries while the API does not respond


def declare(
    verbs: dict[str, Verb],
    name: str,
    help_text: str | None,
    *arguments: Argument,
    **attributes: Any,
) -> Callable[[Handler], Handler]:
    """Return a decorator that adds a function to the verbs, by a name such as "show", or
    "ledger verify" in a group."""

    def add(run: Handler) -> Handler:
        verbs[name] = Verb(help=help_text, arguments=arguments, run=run, **attributes)
        return run

    return add


def add_verbs(
    parser: ArgumentParser,
    verbs: Mapping[str, Verb],
    *,
    groups: Mapping[str, str],
    prepare: Callable[[ArgumentParser, Verb], None] | None = None,
    **options: Any,
) -> None:
    """Add verbs to a parser; `groups` has the help text of each group, and `prepare` adds
    arguments of this command line to each verb."""
    parser.epilog = exit_codes.SUMMARY
    suggest_verbs(parser, {path.split()[0] for path, verb in verbs.items() if verb.help})
    top = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    nested: dict[str, Any] = {"": top}
    for path, found in verbs.items():
        group, _, name = path.rpartition(" ")
        if group not in nested:
            nested[group] = top.add_parser(group, help=groups[group]).add_subparsers(
                dest=f"{group}_verb", required=True
            )
        help_text = {} if found.help is None else {"help": found.help}
        below: ArgumentParser = nested[group].add_parser(name, **help_text, **options)
        below.add_argument(
            "--json", action="store_true", help="print JSON, as the API returns it"
        )
        if prepare is not None:
            prepare(below, found)
        for add_argument in found.arguments:
            add_argument(below)
        below.set_defaults(handler=found.run)


_INVALID_CHOICE = re.compile(r"(argument VERB: invalid choice: '([^']*)').*", re.DOTALL)


def suggest_verbs(parser: ArgumentParser, names: Iterable[str]) -> None:
    """Make the error about an unknown verb name the verb that was probably meant, instead
    of all verbs."""
    error = parser.error
    known = sorted(names)

    def suggest(message: str) -> NoReturn:
        if found := _INVALID_CHOICE.fullmatch(message):
            close = get_close_matches(found[2], known, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"Use {', '.join(known)}."
            message = f"{found[1]}. {hint}"
        error(message)

    vars(parser)["error"] = suggest


def reason_text(text: str) -> str:
    """Read a reason from the command line. Raises `ArgumentTypeError` for bytes that are
    not text, which Python passes as surrogates, and for more than a request can contain."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentTypeError("a reason must be valid UTF-8 text") from error
    if len(text) > LONGEST_REASON:
        raise ArgumentTypeError(f"a reason has at most {LONGEST_REASON} characters")
    return text


def start_time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(
            f"{text!r} is not a time such as 2026-12-01T02:00:00+01:00"
        ) from error
    if found.tzinfo is None:
        raise ArgumentTypeError(
            f"{text!r} needs a time zone, as in {text}+01:00 or {text}Z"
        )
    return found


def ledger_head(text: str) -> ChainHead:
    try:
        return ChainHead.parse(text)
    except InvalidRequest as error:
        raise ArgumentTypeError(str(error)) from error


TARGETS = argument(
    "targets",
    nargs="*",
    metavar="TARGET",
    help="app, app.name or app.zero (default: everything)",
)
DATABASE = argument(
    "--database",
    default="default",
    metavar="ALIAS",
    help="alias of the database (default: %(default)s)",
)
MODE = argument(
    "--mode",
    default=Mode.APPLY.value,
    choices=[mode.value for mode in Mode],
    help="how to carry out the steps (default: %(default)s)",
)
PHASE = argument(
    "--phase",
    choices=[phase.value for phase in Phase],
    help="include only the steps of this deploy phase",
)
PLAN = (TARGETS, DATABASE, MODE, PHASE)
FINGERPRINT = argument(
    "--fingerprint",
    default="",
    help="refuse any plan but the one with this fingerprint",
)
REBUILD_INVALID_INDEXES = flag(
    "--rebuild-invalid-indexes", "drop invalid indexes that a step creates again"
)
NO_WAIT = flag("--no-wait", "return without waiting for the end")
RUN = argument("run", help="ID of the run")
_REASON: dict[str, Any] = {"type": reason_text, "help": "reason to record in the ledger"}
REASON = argument("--reason", default="", **_REASON)
REQUIRED_REASON = argument("--reason", required=True, **_REASON)
