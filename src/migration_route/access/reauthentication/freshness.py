"""Is this person's login fresh enough for a change, and how can they show it anew?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum, unique
from typing import Any
from urllib.parse import urlencode

from django.db import DatabaseError
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from migration_route.access.reauthentication import elsewhere, with_allauth, with_otp
from migration_route.access.reauthentication.passwords import has_password
from migration_route.access.reauthentication.stamps import age_of_stamp
from migration_route.conf import route_settings
from migration_route.errors import ReauthenticationRequired

USUAL = timedelta(minutes=15)


@unique
class Way(StrEnum):
    """How a person shows anew who they are."""

    PASSWORD = "password"  # noqa: S105 - a way, not a password
    ELSEWHERE = "elsewhere"  # on another page, whose address is told
    LOGIN = "login"  # by signing out and in again


def what_is_missing(request: HttpRequest, user: Any) -> ReauthenticationRequired | None:
    """Return what keeps this person from a change now; None where nothing does.

    Raises `DatabaseError` where that depends on a table that cannot be read.
    """
    wanted = route_settings().reauthenticate
    if wanted is None:
        return None
    if isinstance(wanted, timedelta):
        return _by_age(request, user, wanted)
    match elsewhere.ask(wanted, request):
        case True:
            return None
        case False:
            return _required(
                Way.LOGIN, "This project says that your login is not fresh enough."
            )
        case str(address):
            return _required(
                Way.ELSEWHERE, "A change asks for a fresh login.", address=address
            )
        case None:
            return _by_age(request, user, USUAL)


def _by_age(
    request: HttpRequest, user: Any, limit: timedelta
) -> ReauthenticationRequired | None:
    if with_otp.lacks_second_factor(user):
        return _elsewhere_or_login(
            with_otp.page_for_second_factor,
            "Your account has a second factor, and this session was not signed in with it.",
        )
    session = getattr(request, "session", None)
    if session is None:
        return _required(Way.LOGIN, "There is no session that says when you signed in.")
    ages = (age_of_stamp(session, user), with_allauth.age_of_record(session, user))
    if any(age is not None and age < limit for age in ages):
        return None
    since = "It is not known when you signed in, and a change asks for a fresh login."
    if known := [age for age in ages if age is not None]:
        since = (
            f"You signed in {_spoken(min(known))} ago, and a change asks for a login that "
            f"is not older than {_spoken(limit)}."
        )
    if has_password(user):
        return _required(Way.PASSWORD, since)
    return _elsewhere_or_login(lambda: with_allauth.page_for(user), since)


def _elsewhere_or_login(
    find: Callable[[], str | None], why: str
) -> ReauthenticationRequired:
    try:
        page = find()
    except DatabaseError:
        page = None
    if page is None:
        return _required(Way.LOGIN, why)
    separator = "&" if "?" in page else "?"
    back = urlencode({"next": elsewhere.return_address()})
    return _required(Way.ELSEWHERE, why, address=f"{page}{separator}{back}")


def _required(way: Way, why: str, *, address: str = "") -> ReauthenticationRequired:
    if way is Way.PASSWORD:
        try:
            address = reverse("migration_route:api-reauthenticate")
        except NoReverseMatch:  # the project mounts the smallest view alone
            return _required(Way.LOGIN, why)
    hint = {
        Way.PASSWORD: 'POST reauthenticate {"password": "…"}, then send this again.',
        Way.ELSEWHERE: "Show there who you are, then send the request again.",
        Way.LOGIN: "Sign out and in again, then send the request again.",
    }[way]
    return ReauthenticationRequired(why, hint=hint, way=way.value, address=address)


def _spoken(length: timedelta) -> str:
    """Write a length of time as one would say it, rounded down."""
    seconds = length.total_seconds()
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return f"{seconds:g} s" if seconds < 1 else f"{int(seconds)} s"
