"""Arguments that both command lines take. No Django here."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime

from migration_route.core.enums import Mode, Phase, Resolution

LONGEST_REASON = 2000
"""Characters, as in a request body."""


def target_arguments(parser: ArgumentParser, *, has_mode: bool = True) -> None:
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="app, app.name or app.zero (default: everything)",
    )
    parser.add_argument(
        "--database",
        default="default",
        metavar="ALIAS",
        help="alias of the database (default: %(default)s)",
    )
    if has_mode:
        parser.add_argument(
            "--mode",
            default=Mode.APPLY.value,
            choices=[mode.value for mode in Mode],
            help="how to carry out the steps (default: %(default)s)",
        )
        _phase_argument(parser)


def list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--database", metavar="ALIAS", help="list only this database")
    parser.add_argument(
        "--limit", type=int, default=20, help="list at most 1 to 200 (default: %(default)s)"
    )


def run_argument(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="ID of the run")


def run_arguments(parser: ArgumentParser, *, needs_reason: bool = False) -> None:
    run_argument(parser)
    parser.add_argument(
        "--reason",
        type=reason_text,
        default="",
        required=needs_reason,
        help="reason to record in the ledger",
    )


def apply_arguments(parser: ArgumentParser) -> None:
    target_arguments(parser)
    _request_arguments(parser)
    parser.add_argument(
        "--rebuild-invalid-indexes",
        action="store_true",
        help="drop invalid indexes that a step creates again",
    )
    parser.add_argument(
        "--at",
        type=_start_time,
        metavar="TIME",
        help="start no earlier, such as 2026-12-01T02:00:00+01:00",
    )
    parser.add_argument(
        "--no-wait-for-window",
        action="store_true",
        help="refuse a run that cannot start now, instead of letting it wait",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def rehearse_arguments(parser: ArgumentParser) -> None:
    target_arguments(parser, has_mode=False)
    _phase_argument(parser)
    _request_arguments(parser)
    parser.add_argument(
        "--data", action="store_true", help="copy the rows too, not only the schema"
    )
    parser.add_argument(
        "--round-trip", action="store_true", help="reverse every step afterwards"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="use the database itself, in one transaction that is rolled back; its locks "
        "are real and last until the end",
    )


def resolve_arguments(parser: ArgumentParser) -> None:
    run_arguments(parser, needs_reason=True)
    parser.add_argument(
        "--how",
        default=Resolution.AS_IS.value,
        choices=[how.value for how in Resolution],
        help="how to resolve the step that stopped (default: %(default)s)",
    )


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


def question(*, needs_approval: bool) -> str:
    """Return the confirmation prompt."""
    prompt = "Request approval for this plan?" if needs_approval else "Apply this plan?"
    return f"{prompt} [y/N] "


def is_yes(answer: str) -> bool:
    return answer.strip().lower() in {"y", "yes"}


def _phase_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--phase",
        choices=[phase.value for phase in Phase],
        help="include only the steps of this deploy phase",
    )


def _request_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--fingerprint",
        default="",
        help="refuse any plan but the one with this fingerprint",
    )
    parser.add_argument(
        "--reason", type=reason_text, default="", help="reason to record in the ledger"
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="return without waiting for the end"
    )


def _start_time(text: str) -> datetime:
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
