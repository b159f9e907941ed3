"""Parsing of the queries and forms of the pages into values."""

from __future__ import annotations

from django.http import HttpRequest, QueryDict

from migration_route.core.enums import Phase, Resolution
from migration_route.core.errors import InvalidRequest
from migration_route.planning.plan import Details, PlanRequest
from migration_route.services.apply import ApplyRequest
from migration_route.web.plans import read_start_time

LONGEST_REASON = 2000
_LONGEST_KEY = 64
_DIGITS = 18


def plan_request(data: QueryDict) -> PlanRequest:
    """Return the requested plan. Empty fields are ignored. Raises `InvalidRequest`."""
    return PlanRequest(
        database=data.get("database") or "default",
        targets=tuple(filter(None, map(str.strip, data.getlist("target")))),
        phase=_phase(data),
    )


def details(request: HttpRequest) -> Details:
    """Return the number of steps to skip before the details. Raises `InvalidRequest`."""
    return Details(after=number(request, "details") or 0)


def _phase(data: QueryDict) -> Phase | None:
    text = data.get("phase")
    if not text:
        return None
    if text not in list(Phase):
        raise InvalidRequest(f"phase must be one of {', '.join(Phase)}, not {text[:50]!r}.")
    return Phase(text)


def apply_request(data: QueryDict) -> ApplyRequest:
    """Parse the form of the plan page. Raises `InvalidRequest`."""
    plan = plan_request(data)
    return ApplyRequest(
        database=plan.database,
        targets=plan.targets,
        phase=plan.phase,
        fingerprint=data.get("fingerprint", ""),
        reason=reason(data),
        at=read_start_time(data),
        rebuild_invalid_indexes=data.get("rebuild_invalid_indexes") == "on",
        # A form that is submitted twice starts one run.
        idempotency_key=data.get("key", "")[:_LONGEST_KEY] or None,
    )


def reason(data: QueryDict) -> str:
    """Return the field `reason`. Raises `InvalidRequest` if it is too long, or contains a
    NUL, which databases cannot store."""
    text = data.get("reason", "").strip()
    if len(text) > LONGEST_REASON:
        raise InvalidRequest(f"A reason must have at most {LONGEST_REASON} characters.")
    if "\x00" in text:
        raise InvalidRequest("A reason cannot contain the character NUL.")
    return text


def resolution(data: QueryDict) -> Resolution:
    """Return the field `how` of the resolve form. Raises `InvalidRequest`."""
    text = data.get("how") or Resolution.AS_IS
    if text not in list(Resolution):
        raise InvalidRequest(
            f"how must be one of {', '.join(Resolution)}, not {text[:50]!r}."
        )
    return Resolution(text)


def number(request: HttpRequest, name: str) -> int | None:
    """Return a whole number from the query, or None. Raises `InvalidRequest`."""
    text = request.GET.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidRequest(f"{name} must be a whole number, not {text[:50]!r}.")
    return int(text)
