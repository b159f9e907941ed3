"""What does a query or a form of a page say? Text becomes a value, or a clear error."""

from __future__ import annotations

from django.http import HttpRequest, QueryDict

from migration_route.core.enums import Phase, Resolution
from migration_route.core.errors import InvalidRequest
from migration_route.planning.plan import Details, PlanRequest
from migration_route.services.apply import ApplyRequest
from migration_route.web.plans import begin_at

LONGEST_REASON = 2000
_LONGEST_KEY = 64
_DIGITS = 18


def plan_request(words: QueryDict) -> PlanRequest:
    """Read which plan is wanted; an empty field asks for nothing."""
    return PlanRequest(
        database=words.get("database") or "default",
        targets=tuple(filter(None, map(str.strip, words.getlist("target")))),
        phase=_phase(words),
    )


def details(request: HttpRequest) -> Details:
    """Read after how many steps the details are wanted. Raises `InvalidRequest`."""
    return Details(after=number(request, "details") or 0)


def _phase(words: QueryDict) -> Phase | None:
    text = words.get("phase")
    if not text:
        return None
    if text not in list(Phase):
        raise InvalidRequest(f"phase is one of {', '.join(Phase)}, not {text[:50]!r}.")
    return Phase(text)


def apply_request(words: QueryDict) -> ApplyRequest:
    """Read the form of the plan page. Raises `InvalidRequest`."""
    wanted = plan_request(words)
    return ApplyRequest(
        database=wanted.database,
        targets=wanted.targets,
        phase=wanted.phase,
        fingerprint=words.get("fingerprint", ""),
        reason=reason(words),
        at=begin_at(words),
        rebuild_invalid_indexes=words.get("rebuild_invalid_indexes") == "on",
        # A form that is sent twice starts one run.
        idempotency_key=words.get("key", "")[:_LONGEST_KEY] or None,
    )


def reason(words: QueryDict) -> str:
    """Read why something is done. Raises `InvalidRequest` when it is too long, or no
    database could store it."""
    text = words.get("reason", "").strip()
    if len(text) > LONGEST_REASON:
        raise InvalidRequest(f"A reason has at most {LONGEST_REASON} characters.")
    if "\x00" in text:
        raise InvalidRequest("A reason cannot hold the character NUL.")
    return text


def resolution(words: QueryDict) -> Resolution:
    """Read what becomes of a step that stopped midway. Raises `InvalidRequest`."""
    text = words.get("how") or Resolution.AS_IS
    if text not in list(Resolution):
        raise InvalidRequest(f"how is one of {', '.join(Resolution)}, not {text[:50]!r}.")
    return Resolution(text)


def number(request: HttpRequest, name: str) -> int | None:
    """Read a whole number from the query; None without one. Raises `InvalidRequest`."""
    text = request.GET.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidRequest(f"{name} must be a whole number, not {text[:50]!r}.")
    return int(text)
