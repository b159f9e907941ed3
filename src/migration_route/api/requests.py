"""Parses requests: JSON bodies, query parameters and headers.

Invalid input raises `InvalidRequest`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import suppress
from typing import TypeVar

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from migration_route.core.enums import Mode, Phase
from migration_route.core.errors import InvalidRequest
from migration_route.planning.plan import Details
from migration_route.presentation import schemas

LARGEST_BODY = 64 * 1024
_READ_PAST = 4 * 1024 * 1024
_LONGEST_KEY = 200
_MOST_STEPS = 100_000
_LONGEST_VALUE = 300  # as for the name of a target in a body
_MOST_VALUES = 100  # of one parameter, as for the targets in a body

Body = TypeVar("Body", bound=schemas.Request)


class TooLarge(InvalidRequest):
    """The request body is too large."""

    http_status = 413


def body_of(request: HttpRequest, kind: type[Body]) -> Body:
    """Decode the JSON body. Raises `InvalidRequest`, which says where it is invalid."""
    length = request.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > LARGEST_BODY:
        _read_past(request)
        raise TooLarge(f"The body can have at most {LARGEST_BODY} bytes, not {length}.")
    try:
        content = request.read(LARGEST_BODY + 1)
    except RequestDataTooBig as error:
        raise TooLarge from error
    except (UnreadablePostError, OSError) as error:
        raise InvalidRequest("The body could not be read completely.") from error
    if len(content) > LARGEST_BODY:
        raise TooLarge(f"The body can have at most {LARGEST_BODY} bytes.")
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body is invalid: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from error


def _read_past(request: HttpRequest) -> None:
    """Read a rejected body up to a limit: a server that closes a connection with unread
    data resets it, and the response may be lost."""
    with suppress(RequestDataTooBig, UnreadablePostError, OSError):
        for _ in range(_READ_PAST // LARGEST_BODY):
            if not request.read(LARGEST_BODY):
                return


def check_query(request: HttpRequest, known: Collection[str]) -> None:
    """Reject unknown query parameters, which may be a typing error or a secret, and values
    that no parameter accepts."""
    unknown = sorted(set(request.GET) - set(known))
    if unknown:
        raise InvalidRequest(
            f"Unknown query parameters: {', '.join(unknown)[:200]}.",
            hint=f"Valid parameters: {', '.join(known) or 'none'}. Send a token in the "
            "Authorization header, never in the URL.",
        )
    for name, values in request.GET.lists():
        if len(values) > _MOST_VALUES:
            raise InvalidRequest(f"{name} can occur at most {_MOST_VALUES} times.")
        for value in values:
            if "\x00" in value or len(value) > _LONGEST_VALUE:
                raise InvalidRequest(
                    f"{name} can have at most {_LONGEST_VALUE} characters, without NUL."
                )


def number(request: HttpRequest, name: str, *, default: int, least: int, most: int) -> int:
    text = request.GET.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest(f"{name} must be an integer, not {text[:50]!r}.")
    if not least <= int(text) <= most:
        raise InvalidRequest(f"{name} must be between {least} and {most}.")
    return int(text)


def mode_of(request: HttpRequest) -> Mode:
    text = request.GET.get("mode", Mode.APPLY)
    if text not in list(Mode):
        raise InvalidRequest(f"mode must be one of {', '.join(Mode)}, not {text[:50]!r}.")
    return Mode(text)


def details_of(request: HttpRequest) -> Details | None:
    """Read `details`: the number of steps after which details start, or "none"."""
    if request.GET.get("details") == "none":
        return None
    return Details(after=number(request, "details", default=0, least=0, most=_MOST_STEPS))


def phase_of(request: HttpRequest) -> Phase | None:
    text = request.GET.get("phase")
    if text is None:
        return None
    if text not in list(Phase):
        raise InvalidRequest(f"phase must be one of {', '.join(Phase)}, not {text[:50]!r}.")
    return Phase(text)


def idempotency_key(request: HttpRequest) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY:
        raise InvalidRequest(
            f"The Idempotency-Key must have 1 to {_LONGEST_KEY} characters."
        )
    return key


def wanted_wait(request: HttpRequest) -> float:
    """Return the seconds of `Prefer: wait=SECONDS` (RFC 7240); 0 without it."""
    for preference in request.headers.get("Prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name.strip().lower() == "wait":
            try:
                seconds = float(value.strip().strip('"'))
            except ValueError:
                return 0.0  # an invalid preference is ignored (RFC 7240, 2)
            return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
    return 0.0
