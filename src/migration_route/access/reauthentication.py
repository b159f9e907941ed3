"""Is the login of a person fresh enough for a change, and what if not?

What does the project's own callable say of a login?

REAUTHENTICATE names it by a dotted path. It takes the request, and its answer is one of:

- `True`: fresh enough, whatever the route knows itself.
- `False`: not, and there is no way from here but to sign in again.
- a text, or a response that redirects: not, and this is where to show it. `{next}` in the
  text becomes the address to come back to, quoted for a query.
- `None`: ask as you would without me.

Whatever else it answers, or raises, is taken as `False`, and is in the log.

When did the person of this session last show who they are?

A stamp in the session, with the user that it is about: written at a login, wherever that
happens, and by the route's own question for the password.

Is this the password of the one who is signed in?

What does django-allauth know of a login, where a project has it?

Its own question, `did_recently_reauthenticate`, is not asked: it answers yes for whoever
has neither a password nor a second factor.

Has the second factor of django-otp been shown, where a user has one?

Is this person's login fresh enough for a change, and how can they show it anew?
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Final
from urllib.parse import quote, urlencode

from django.apps import apps
from django.conf import settings
from django.contrib.auth import authenticate, get_backends
from django.contrib.auth.hashers import check_password
from django.contrib.auth.signals import user_logged_in
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, resolve, reverse
from django.utils.module_loading import import_string

from migration_route.access.isolation import savepoints
from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.errors import ReauthenticationRequired

logger = logging.getLogger("migration_route.access")

AS_USUAL: Final = None
"""The answer of a callable that leaves the question to the route."""


def ask(path: str, request: HttpRequest) -> bool | str | None:
    """Return what the callable says: fresh or not, where to go, or None for as usual."""
    try:
        answer = import_string(path)(request)
    except Exception:
        logger.exception("REAUTHENTICATE names %s, which failed: no login is fresh", path)
        return False
    if answer is AS_USUAL or isinstance(answer, bool):
        return answer
    if isinstance(answer, str) and answer:
        return answer.replace("{next}", quote(return_address(), safe=""))
    if isinstance(answer, HttpResponseBase) and answer.headers.get("Location"):
        return answer.headers["Location"]
    logger.error("REAUTHENTICATE names %s, which answered %.80r", path, answer)
    return False


def return_address() -> str:
    """Return the page on which what was suspended can be gone on with."""
    try:
        return reverse("migration_route:suspended")
    except NoReverseMatch:
        return "/"


KEY = "_migration_route_login"
SKEW = timedelta(seconds=5)
"""By how much the clocks of two hosts may differ: a stamp from further in the future is
none, because the clock was set back, and nobody knows how old it is."""


def watch_logins() -> None:
    """Write a stamp at every login of the project."""
    user_logged_in.connect(_at_login, dispatch_uid="migration_route.login")


def _at_login(*, request: HttpRequest | None = None, user: Any, **_: Any) -> None:
    if hasattr(request, "session"):  # a login of a test, or of a command, may have none
        stamp(request.session, user)  # type: ignore[union-attr]


def stamp(session: Any, user: Any) -> None:
    """Write into the session that the user has shown now who they are."""
    session[KEY] = {"user": str(user.pk), "at": clock.now()}


def age_of_stamp(session: Any, user: Any) -> timedelta | None:
    """Return how old the stamp is; None where there is none of this user."""
    found = session.get(KEY)
    if not isinstance(found, dict) or found.get("user") != str(user.pk):
        return None
    try:
        return age(clock.parse_time(found["at"]))
    except (KeyError, TypeError, ValueError):
        return None


def age(moment: datetime) -> timedelta | None:
    """Return how long ago a moment was; None where it is yet to come."""
    passed = datetime.now(UTC) - moment
    return max(passed, timedelta(0)) if passed >= -SKEW else None


def has_password(user: Any) -> bool:
    """Tell whether asking for a password makes sense: the account has one, or a back end
    that keeps its accounts elsewhere, such as LDAP, takes one."""
    from django.contrib.auth.backends import (
        ModelBackend,  # brings models: a project may have none
    )

    return bool(user.has_usable_password()) or any(
        not isinstance(backend, ModelBackend)
        and "password" in inspect.signature(backend.authenticate).parameters
        for backend in get_backends()
    )


def is_password_of(user: Any, password: str, request: HttpRequest) -> bool:
    """Ask the project's own back ends, so that whatever counts failed logins counts.

    Where they cannot read the table of users, because it is behind the code, the hash
    that was read with the columns that exist decides.
    """
    try:
        with savepoints():
            found = authenticate(request, username=user.get_username(), password=password)
    except DatabaseError:
        return user.has_usable_password() and check_password(password, user.password)
    return found is not None and found.pk == user.pk


def renew(request: HttpRequest, user: Any) -> None:
    """Stamp the session, and give it a new key: whoever else has the old one is out."""
    stamp(request.session, user)
    request.session.cycle_key()


_RECORDS = "account_authentication_methods"
_USER = "account_authentication_methods_user"


def age_of_record(session: Any, user: Any) -> timedelta | None:
    """Return how long ago allauth let this user show again who they are; None where it
    did not in this session."""
    if not apps.is_installed("allauth.account"):
        return None
    records = session.get(_RECORDS)
    if not isinstance(records, list) or session.get(_USER, str(user.pk)) != str(user.pk):
        return None
    for record in reversed(records):
        if isinstance(record, dict) and record.get("reauthenticated"):
            try:
                return age(datetime.fromtimestamp(record["at"], UTC))
            except (KeyError, TypeError, ValueError, OverflowError, OSError):
                return None
    return None


def page_for(user: Any) -> str | None:
    """Return the page on which allauth lets a user without a password show who they are:
    that of the second factor. Raises `DatabaseError` where its tables cannot be read."""
    if not apps.is_installed("allauth.mfa"):
        return None
    from allauth.mfa.utils import is_mfa_enabled

    try:
        page = reverse("mfa_reauthenticate")
    except NoReverseMatch:
        return None
    return page if is_mfa_enabled(user) else None


def lacks_second_factor(user: Any) -> bool:
    """Tell whether the user has a confirmed device that this session was not verified
    with. Raises `DatabaseError` where a table of devices cannot be read."""
    if not apps.is_installed("django_otp") or not _has_device(user):
        return False
    verified = getattr(user, "is_verified", None)
    # Without the middleware of django-otp nobody can tell: not verified.
    return verified is None or not verified()


def _has_device(user: Any) -> bool:
    from django_otp import device_classes

    for model in device_classes():
        rows = model._default_manager.filter(user_id=user.pk, confirmed=True)
        if rows.exists():
            return True
    return False


def page_for_second_factor() -> str | None:
    """Return where it is shown: OTP_LOGIN_URL where it is set, else the login of an admin
    that asks for it; None where the project has neither."""
    from django_otp.admin import OTPAdminSite

    if login := getattr(settings, "OTP_LOGIN_URL", None):
        return str(resolve_url(login))
    try:
        index = resolve(reverse("admin:index"))
    except NoReverseMatch:
        return None
    site = getattr(index.func, "admin_site", None)
    return reverse("admin:login") if isinstance(site, OTPAdminSite) else None


USUAL = timedelta(minutes=15)


@unique
class ReauthenticationMethod(StrEnum):
    """How a person shows anew who they are."""

    PASSWORD = "password"  # noqa: S105 - a way, not a password
    ELSEWHERE = "elsewhere"  # on another page, whose address is told
    LOGIN = "login"  # by signing out and in again


def reauthentication_error(
    request: HttpRequest, user: Any
) -> ReauthenticationRequired | None:
    """Return what keeps this person from a change now; None where nothing does.

    Raises `DatabaseError` where that depends on a table that cannot be read.
    """
    wanted = route_settings().reauthenticate
    if wanted is None:
        return None
    if isinstance(wanted, timedelta):
        return _by_age(request, user, wanted)
    match ask(wanted, request):
        case True:
            return None
        case False:
            return _required(
                ReauthenticationMethod.LOGIN,
                "This project says that your login is not fresh enough.",
            )
        case str(address):
            return _required(
                ReauthenticationMethod.ELSEWHERE,
                "A change asks for a fresh login.",
                address=address,
            )
        case None:
            return _by_age(request, user, USUAL)


def _by_age(
    request: HttpRequest, user: Any, limit: timedelta
) -> ReauthenticationRequired | None:
    if lacks_second_factor(user):
        return _elsewhere_or_login(
            page_for_second_factor,
            "Your account has a second factor, and this session was not signed in with it.",
        )
    session = getattr(request, "session", None)
    if session is None:
        return _required(
            ReauthenticationMethod.LOGIN,
            "There is no session that says when you signed in.",
        )
    ages = (age_of_stamp(session, user), age_of_record(session, user))
    if any(age is not None and age < limit for age in ages):
        return None
    since = "It is not known when you signed in, and a change asks for a fresh login."
    if known := [age for age in ages if age is not None]:
        since = (
            f"You signed in {_spoken(min(known))} ago, and a change asks for a login that "
            f"is not older than {_spoken(limit)}."
        )
    if has_password(user):
        return _required(ReauthenticationMethod.PASSWORD, since)
    return _elsewhere_or_login(lambda: page_for(user), since)


def _elsewhere_or_login(
    find: Callable[[], str | None], why: str
) -> ReauthenticationRequired:
    try:
        page = find()
    except DatabaseError:
        page = None
    if page is None:
        return _required(ReauthenticationMethod.LOGIN, why)
    separator = "&" if "?" in page else "?"
    back = urlencode({"next": return_address()})
    return _required(
        ReauthenticationMethod.ELSEWHERE, why, address=f"{page}{separator}{back}"
    )


def _required(
    way: ReauthenticationMethod, why: str, *, address: str = ""
) -> ReauthenticationRequired:
    if way is ReauthenticationMethod.PASSWORD:
        try:
            address = reverse("migration_route:api-reauthenticate")
        except NoReverseMatch:  # the project mounts the smallest view alone
            return _required(ReauthenticationMethod.LOGIN, why)
    method = ReauthenticationMethod
    hint = {
        method.PASSWORD: 'POST reauthenticate {"password": "…"}, then send this again.',
        method.ELSEWHERE: "Show there who you are, then send the request again.",
        method.LOGIN: "Sign out and in again, then send the request again.",
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
