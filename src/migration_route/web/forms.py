"""Parsing of the queries and forms of the pages into values."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import TypeVar

from django.http import HttpRequest, QueryDict
from django.utils import timezone

from migration_route.core import clock
from migration_route.core.enums import Action, Phase, Resolution, RunState
from migration_route.core.errors import InvalidRequest
from migration_route.ledger.queries import EntryFilter, RunFilter
from migration_route.planning.plan import Details, PlanRequest
from migration_route.policy.schedule import exists_in_timezone, instant
from migration_route.presentation.schemas.requests import LONGEST_REASON
from migration_route.services.apply import ApplyRequest

_LONGEST_KEY = 64
_DIGITS = 18


def plan_request(data: QueryDict) -> PlanRequest:
    """Return the requested plan. Empty fields are ignored. Raises `InvalidRequest`."""
    return PlanRequest(
        database=data.get("database") or "default",
        targets=tuple(filter(None, map(str.strip, data.getlist("target")))),
        phase=choice(data, "phase", Phase),
    )


def details(request: HttpRequest) -> Details:
    """Return the number of steps to skip before the details. Raises `InvalidRequest`."""
    return Details(after=number(request, "details") or 0)


Choice = TypeVar("Choice", bound=StrEnum)


def choice(data: QueryDict, name: str, kind: type[Choice]) -> Choice | None:
    """Return a field as one of these values; None if it is empty. Raises
    `InvalidRequest`."""
    text = data.get(name)
    if not text:
        return None
    if text not in list(kind):
        raise InvalidRequest(f"{name} must be one of {', '.join(kind)}, not {text[:50]!r}.")
    return kind(text)


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


class NotConfirmed(InvalidRequest):
    """The typed name is not that of the database."""

    code = "not_confirmed"
    hint = "Type the name of the database to confirm a dangerous plan."


def require_typed_name(data: QueryDict, database: str) -> None:
    """Raise `NotConfirmed` if the form asked for the name of the database and contains
    another text."""
    typed = data.get("confirm")
    if typed is not None and typed.strip() != database:
        raise NotConfirmed(f"{typed.strip()[:50]!r} is not {database!r}.")


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
    return choice(data, "how", Resolution) or Resolution.AS_IS


def is_forced(data: QueryDict) -> bool:
    return data.get("force") == "1"


def read_start_time(data: QueryDict) -> datetime | None:
    """Return the requested start time, in the current time zone unless it names one; None
    for none. Raises `InvalidRequest`."""
    text = data.get("at", "").strip()
    if not text:
        return None
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{text[:50]!r} is not a valid start time.") from error
    if wall.tzinfo is not None:
        return wall
    zone = timezone.get_current_timezone()
    try:
        exists = exists_in_timezone(wall, zone)
    except OverflowError as error:
        raise InvalidRequest(f"{text[:50]!r} is out of range.") from error
    if not exists:
        raise InvalidRequest(
            f"{text[:50]} does not exist in {timezone.get_current_timezone_name()}: clocks "
            "are set forward that day.",
            hint="Choose an earlier or a later time.",
        )
    return instant(wall, zone)


_MIGRATION = re.compile(r"[a-z_]\w*(?:\.\w+)?", re.IGNORECASE | re.ASCII)
_LONGEST_WORD = 200


def run_filter(data: QueryDict) -> RunFilter:
    """Return which runs to list. Raises `InvalidRequest`."""
    migration = _word(data, "migration")
    if migration and _MIGRATION.fullmatch(migration) is None:
        raise InvalidRequest(
            f"{migration[:50]!r} is not a migration.",
            hint="Enter an app, or an app and a migration: shop, shop.0005.",
        )
    return RunFilter(
        state=choice(data, "state", RunState) or "",
        actor=_word(data, "user"),
        migration=migration,
        since=_day(data, "since"),
        until=_day(data, "until", days=1),
    )


def entry_filter(data: QueryDict) -> EntryFilter:
    """Return which entries of the ledger to list. Raises `InvalidRequest`."""
    action = choice(data, "action", Action)
    return EntryFilter(
        run=_word(data, "run"),
        database=_word(data, "database"),
        actor=_word(data, "user"),
        actions=(action,) if action else (),
        since=_day(data, "since"),
        until=_day(data, "until", days=1),
    )


def _word(data: QueryDict, name: str) -> str:
    word = data.get(name, "").strip()
    if len(word) > _LONGEST_WORD or "\x00" in word:
        raise InvalidRequest(f"{name} is too long, or contains the character NUL.")
    return word


def _day(data: QueryDict, name: str, *, days: int = 0) -> str:
    """Return the stored time at which a day of the user's time zone begins, or that many
    days later; "" for none."""
    text = data.get(name, "").strip()
    if not text:
        return ""
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
        midnight = datetime.combine(day, time(), timezone.get_current_timezone())
        return clock.format_time(midnight)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{text[:50]!r} is not a date such as 2026-01-31.") from error


def number(request: HttpRequest, name: str) -> int | None:
    """Return a whole number from the query, or None. Raises `InvalidRequest`."""
    text = request.GET.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidRequest(f"{name} must be a whole number, not {text[:50]!r}.")
    return int(text)
