"""`migration-route VERB`: the verbs of the command, over the API."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from migration_route import __version__
from migration_route.cli.colors import colored, has_colors
from migration_route.cli.parser import Options, Verb, add_verbs, argument
from migration_route.cli.remote.backend import HttpBackend
from migration_route.cli.remote.client import ProblemResponse, RouteClient
from migration_route.cli.remote.transport import Transport, api_address, checked_token
from migration_route.cli.terminal import LiveDisplay, Terminal
from migration_route.cli.verbs import VERBS
from migration_route.core import clock
from migration_route.core.errors import InvalidRequest, RouteError
from migration_route.presentation.text.exit_codes import FAILED, INTERRUPTED

_CONTROL = {
    number: f"\\u{number:04x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if chr(number) not in "\n\t"
}


def console(*, is_json: bool = False) -> Terminal:
    """Return the terminal of this process."""
    return Terminal(
        command="migration-route",
        output=lambda words: print(words, flush=True),  # noqa: T201 - the output
        errors=lambda words: print(words, file=sys.stderr, flush=True),  # noqa: T201
        is_json=is_json,
        escape=escape_control_characters,
        paint=colored if has_colors(sys.stdout) and not is_json else str,
        live_line=_live_line,
    )


def escape_control_characters(words: str) -> str:
    """Return text that may come from a database or a migration, without control characters
    of a terminal. JSON stays JSON, with the same meaning."""
    return words.translate(_CONTROL)


def _live_line(steps: int) -> AbstractContextManager[LiveDisplay | None]:
    if not sys.stdout.isatty():
        return nullcontext()
    try:
        from migration_route.cli.remote.live import live_line
    except ImportError:  # the extra [cli] is not installed
        return nullcontext()
    return live_line(steps)


def parser() -> ArgumentParser:
    found = ArgumentParser(
        prog="migration-route",
        description="Plan, rehearse, apply and audit the migrations of a remote project.",
        allow_abbrev=False,
    )
    found.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_verbs(
        found,
        {name: _client_verb(name, verb) for name, verb in VERBS.items()},
        groups={
            "ledger": "verify or export the ledger, or save the evidence of a run",
            "token": "create a token",
        },
        prepare=_connection_arguments,
        allow_abbrev=False,
    )
    return found


def seconds(text: str) -> float:
    """Read a duration such as "30s" or "10m"; a number without a unit is in seconds."""
    try:
        return clock.duration(
            text if text.strip()[-1:].isalpha() else f"{text}s"
        ).total_seconds()
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


_APPLY_ARGUMENTS = (
    argument(
        "--wait-for-approval",
        type=seconds,
        metavar="DURATION",
        help="wait this long for an approval instead of exiting with 6",
    ),
    argument(
        "--build",
        default="",
        help="wait until this build responds, and apply with no other build",
    ),
    argument(
        "--build-timeout",
        type=seconds,
        default=600.0,
        metavar="DURATION",
        help="maximum time to wait for --build (default: 10m)",
    ),
)


def _client_verb(name: str, verb: Verb) -> Verb:
    if name == "apply":
        return replace(verb, arguments=(*verb.arguments, *_APPLY_ARGUMENTS))
    return replace(verb, help=f"{verb.help} (users only)") if verb.is_for_users else verb


def _connection_arguments(found: ArgumentParser, verb: Verb) -> None:
    found.description = verb.help
    if verb.is_offline:
        return
    group = found.add_argument_group(
        "connection", "The token is read from the variable MIGRATION_ROUTE_TOKEN."
    )
    group.add_argument(
        "--url",
        default=os.environ.get("MIGRATION_ROUTE_URL", ""),
        help="address at which the project mounts migration_route (default: the variable "
        "MIGRATION_ROUTE_URL)",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=30.0,
        metavar="DURATION",
        help="maximum time without a response to a request (default: 30s)",
    )
    group.add_argument(
        "--patience",
        type=seconds,
        default=verb.patience,
        metavar="DURATION",
        help="how long to retry when the server does not respond (default: "
        f"{verb.patience:g}s); requests that could start something twice are not repeated",
    )
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help="trust only the certificates in this file"
    )


def connect(terminal: Terminal, options: Options) -> HttpBackend:
    """Return the API of the server that the options and the environment name. Raises
    `InvalidRequest` and `Unauthenticated`."""
    if not options["url"]:
        raise InvalidRequest(
            "The address of the server is missing.",
            hint="Use --url https://example.com/migrations/, or set MIGRATION_ROUTE_URL.",
        )
    if not options["timeout"]:
        raise InvalidRequest("--timeout must be longer than zero.")
    transport = Transport(
        address=api_address(options["url"]),
        token=checked_token(os.environ.get("MIGRATION_ROUTE_TOKEN", "")),
        timeout=options["timeout"],
        ca=options["ca"],
    )
    parts = urlsplit(transport.address)
    if parts.scheme == "http" and not _is_this_host(parts.hostname or ""):
        terminal.trouble(f"The token is sent to {parts.hostname} without encryption.")
    client = RouteClient(
        transport=transport, patience=options["patience"], tell_trouble=terminal.trouble
    )
    return HttpBackend(
        client=client,
        terminal=terminal,
        build=options.get("build", ""),
        until=time.monotonic() + options.get("build_timeout", 0.0),
        approval_timeout=options.get("wait_for_approval") or 0.0,
    )


def _is_this_host(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code."""
    options = vars(parser().parse_args(words))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    terminal = console(is_json=options["json"])
    try:
        return _run_verb(terminal, options)
    except KeyboardInterrupt:
        terminal.write_error("\nInterrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the pipe has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run_verb(terminal: Terminal, options: Options) -> int:
    try:
        code: int = options["handler"](
            partial(connect, terminal, options), terminal, options
        )
    except ProblemResponse as error:
        terminal.tell_error(error.raw, str(error))
        return error.exit_code
    except RouteError as error:
        terminal.tell_problem(error)
        return error.exit_code
    return code
