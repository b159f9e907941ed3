"""Which words do the command and the remote client both take? No Django here."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime

from migration_route.core.enums import Mode, Phase, Resolution

LONGEST_REASON = 2000
"""Characters, as in the body of a request."""


def target_arguments(parser: ArgumentParser, *, has_mode: bool = True) -> None:
    """Let a verb take the targets and the database of a plan, and its mode and phase."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="app, app.name or app.zero; none: everything",
    )
    parser.add_argument("--database", default="default", metavar="ALIAS")
    if has_mode:
        modes = [mode.value for mode in Mode]
        parser.add_argument("--mode", default=Mode.APPLY.value, choices=modes)
        _phase_argument(parser)


def apply_arguments(parser: ArgumentParser) -> None:
    """Let a verb take which plan is carried out, when, and whether it asks and waits."""
    target_arguments(parser)
    _request_arguments(parser)
    parser.add_argument(
        "--rebuild-invalid-indexes",
        action="store_true",
        help="drop the invalid indexes that a step makes anew",
    )
    parser.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="not before this time, with its zone: 2026-12-01T02:00:00+01:00",
    )
    parser.add_argument(
        "--no-window-wait",
        action="store_true",
        help="refuse what may not begin now, instead of letting it wait",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def rehearse_arguments(parser: ArgumentParser) -> None:
    """Let a verb take which plan is rehearsed, and on what."""
    target_arguments(parser, has_mode=False)
    _phase_argument(parser)
    _request_arguments(parser)
    parser.add_argument(
        "--data", action="store_true", help="copy the rows as well, not the schema alone"
    )
    parser.add_argument(
        "--and-back", action="store_true", help="take every step back afterwards"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="on the database itself, in one transaction that is rolled back; its locks "
        "are really taken, and held to the end",
    )


def resolve_arguments(parser: ArgumentParser) -> None:
    """Let a verb take which run is resolved, how and why."""
    parser.add_argument("run")
    parser.add_argument("--reason", type=reason_text, default="", required=True)
    parser.add_argument(
        "--how",
        default=Resolution.AS_IS.value,
        choices=[how.value for how in Resolution],
        help="what becomes of the step that stopped midway",
    )


def reason_text(text: str) -> str:
    """Read a reason from the command line. Raises `ArgumentTypeError` for bytes that are no
    text, which Python hands over as surrogates, and for more than a request may carry."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentTypeError("a reason must be valid UTF-8 text") from error
    if len(text) > LONGEST_REASON:
        raise ArgumentTypeError(f"a reason has at most {LONGEST_REASON} characters")
    return text


def question(*, needs_approval: bool) -> str:
    """Return what a person at a terminal is asked before anything begins."""
    asked = "Ask for approval of this plan?" if needs_approval else "Apply this plan?"
    return f"{asked} [y/N] "


def is_yes(answer: str) -> bool:
    """Tell whether a person has agreed."""
    return answer.strip().lower() in {"y", "yes"}


def _phase_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--phase",
        choices=[phase.value for phase in Phase],
        help="only what belongs on this side of a deploy",
    )


def _request_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--fingerprint", default="", help="refuse any other plan")
    parser.add_argument("--reason", type=reason_text, default="")
    parser.add_argument("--no-wait", action="store_true", help="return when it has begun")


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(
            f"{text!r} is no time such as 2026-12-01T02:00:00+01:00"
        ) from error
    if found.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} needs its zone, as in {text}+01:00 or {text}Z")
    return found
