"""Checks that a login is recent enough for a change, and how the user can reauthenticate.

REAUTHENTICATION can name a callable of the project by a dotted path. It takes the request
and returns one of:

- `True`: recent enough, whatever the session says.
- `False`: not recent enough, and the user must sign out and sign in again.
- a string, or a response that redirects: not recent enough; the address at which to
  reauthenticate. `{next}` in the string is replaced by the return address, quoted for a
  query.
- `None`: use the default check.

Any other value and any exception count as `False`, and are logged.

The default check uses a stamp in the session, with the user and the time. It is written at
every login of the project, and when the user confirms the password here. Records of
django-allauth count as well, but not its `did_recently_reauthenticate`, which is true for a
user without a password and a second factor. A user with a device of django-otp must have
verified the session with it.
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

USE_DEFAULT: Final = None
"""The return value of a callable that selects the default check."""


def call_project_check(path: str, request: HttpRequest) -> bool | str | None:
    """Call the project's callable; return its verdict, an address, or None."""
    try:
        answer = import_string(path)(request)
    except Exception:
        logger.exception(
            "The REAUTHENTICATION callable %s failed: no login is recent enough", path
        )
        return False
    if answer is USE_DEFAULT or isinstance(answer, bool):
        return answer
    if isinstance(answer, str) and answer:
        return answer.replace("{next}", quote(return_address(), safe=""))
    if isinstance(answer, HttpResponseBase) and answer.headers.get("Location"):
        return answer.headers["Location"]
    logger.error("The REAUTHENTICATION callable %s returned %.80r", path, answer)
    return False


def return_address() -> str:
    """Return the address of the page that continues a suspended request."""
    try:
        return reverse("migration_route:suspended")
    except NoReverseMatch:
        return "/"


STAMP_KEY = "_migration_route_login"
SKEW = timedelta(seconds=5)
"""How far the clocks of two hosts may differ.

A stamp that is further in the future does not count: a clock was set back, so the age of
the stamp is unknown.
"""


def stamp_logins() -> None:
    """Stamp the session at every login of the project."""
    user_logged_in.connect(_at_login, dispatch_uid="migration_route.login")


def _at_login(*, request: HttpRequest | None = None, user: Any, **_: Any) -> None:
    if hasattr(request, "session"):  # a login in a test or a command may have no session
        stamp(request.session, user)  # type: ignore[union-attr]


def stamp(session: Any, user: Any) -> None:
    """Record in the session that the user has just authenticated."""
    session[STAMP_KEY] = {"user": str(user.pk), "at": clock.now()}


def age_of_stamp(session: Any, user: Any) -> timedelta | None:
    """Return the age of the user's stamp; None if there is none."""
    stored = session.get(STAMP_KEY)
    if not isinstance(stored, dict) or stored.get("user") != str(user.pk):
        return None
    try:
        return time_since(clock.parse_time(stored["at"]))
    except (KeyError, TypeError, ValueError):
        return None


def time_since(moment: datetime) -> timedelta | None:
    """Return the time since `moment`; None if it is more than SKEW in the future."""
    passed = datetime.now(UTC) - moment
    return max(passed, timedelta(0)) if passed >= -SKEW else None


def has_password(user: Any) -> bool:
    """Whether the user can reauthenticate with a password.

    Either the account has one, or a backend with its own accounts, such as LDAP, accepts
    one.
    """
    from django.contrib.auth.backends import (
        ModelBackend,  # imports models, which a project may not have installed
    )

    return bool(user.has_usable_password()) or any(
        not isinstance(backend, ModelBackend)
        and "password" in inspect.signature(backend.authenticate).parameters
        for backend in get_backends()
    )


def check_user_password(user: Any, password: str, request: HttpRequest) -> bool:
    """Check a password with the project's backends, so that failed logins are counted.

    If they cannot read the user table, because it is behind the code, the hash that was
    read with the existing columns is checked.
    """
    try:
        with savepoints():
            verified = authenticate(
                request, username=user.get_username(), password=password
            )
    except DatabaseError:
        return user.has_usable_password() and check_password(password, user.password)
    return verified is not None and verified.pk == user.pk


def renew_session(request: HttpRequest, user: Any) -> None:
    """Stamp the session and replace its key, which invalidates copies of the old key."""
    stamp(request.session, user)
    request.session.cycle_key()


_RECORDS = "account_authentication_methods"
_USER = "account_authentication_methods_user"


def age_of_allauth_record(session: Any, user: Any) -> timedelta | None:
    """Return the time since the last reauthentication with allauth in this session."""
    if not apps.is_installed("allauth.account"):
        return None
    records = session.get(_RECORDS)
    if not isinstance(records, list) or session.get(_USER, str(user.pk)) != str(user.pk):
        return None
    for record in reversed(records):
        if isinstance(record, dict) and record.get("reauthenticated"):
            try:
                return time_since(datetime.fromtimestamp(record["at"], UTC))
            except (KeyError, TypeError, ValueError, OverflowError, OSError):
                return None
    return None


def allauth_page_for(user: Any) -> str | None:
    """Return the allauth page on which a user without a password can reauthenticate.

    It is the page of the second factor; None without one. Raises `DatabaseError` when the
    tables of allauth cannot be read.
    """
    if not apps.is_installed("allauth.mfa"):
        return None
    from allauth.mfa.utils import is_mfa_enabled

    try:
        page = reverse("mfa_reauthenticate")
    except NoReverseMatch:
        return None
    return page if is_mfa_enabled(user) else None


def lacks_second_factor(user: Any) -> bool:
    """Whether the user has a confirmed device with which this session was not verified.

    Raises `DatabaseError` when a table of devices cannot be read.
    """
    if not apps.is_installed("django_otp") or not _has_device(user):
        return False
    verified = getattr(user, "is_verified", None)
    # Without the middleware of django-otp, the session counts as not verified.
    return verified is None or not verified()


def _has_device(user: Any) -> bool:
    from django_otp import device_classes

    for model in device_classes():
        rows = model._default_manager.filter(user_id=user.pk, confirmed=True)
        if rows.exists():
            return True
    return False


def page_for_second_factor() -> str | None:
    """Return the page on which to verify the second factor.

    OTP_LOGIN_URL if it is set, else the login page of an `OTPAdminSite`; None if the
    project has neither.
    """
    from django_otp.admin import OTPAdminSite

    if login := getattr(settings, "OTP_LOGIN_URL", None):
        return str(resolve_url(login))
    try:
        index = resolve(reverse("admin:index"))
    except NoReverseMatch:
        return None
    site = getattr(index.func, "admin_site", None)
    return reverse("admin:login") if isinstance(site, OTPAdminSite) else None


DEFAULT_MAX_AGE = timedelta(minutes=15)


@unique
class ReauthenticationMethod(StrEnum):
    """How a user reauthenticates."""

    PASSWORD = "password"  # noqa: S105 - a method, not a password
    ELSEWHERE = "elsewhere"  # on another page, at `address`
    LOGIN = "login"  # by signing out and signing in again


def reauthentication_error(
    request: HttpRequest, user: Any
) -> ReauthenticationRequired | None:
    """Return the error if the login is not recent enough for a change; None if it is.

    Raises `DatabaseError` when a table that the check needs cannot be read.
    """
    wanted = route_settings().reauthentication
    if wanted is None:
        return None
    if isinstance(wanted, timedelta):
        return _by_age(request, user, wanted)
    match call_project_check(wanted, request):
        case True:
            return None
        case False:
            return _required(
                ReauthenticationMethod.LOGIN,
                "This project does not accept your login as recent enough.",
            )
        case str(address):
            return _required(
                ReauthenticationMethod.ELSEWHERE,
                "A change needs a recent login.",
                address=address,
            )
        case None:
            return _by_age(request, user, DEFAULT_MAX_AGE)


def _by_age(
    request: HttpRequest, user: Any, limit: timedelta
) -> ReauthenticationRequired | None:
    if lacks_second_factor(user):
        return _elsewhere_or_login(
            page_for_second_factor,
            "Your account has a second factor, and this session is not verified with it.",
        )
    session = getattr(request, "session", None)
    if session is None:
        return _required(
            ReauthenticationMethod.LOGIN,
            "There is no session that records when you signed in.",
        )
    ages = (age_of_stamp(session, user), age_of_allauth_record(session, user))
    if any(age is not None and age < limit for age in ages):
        return None
    why = "It is unknown when you signed in, and a change needs a recent login."
    if known := [age for age in ages if age is not None]:
        why = (
            f"You signed in {_format_duration(min(known))} ago, and a change needs a login "
            f"that is not older than {_format_duration(limit)}."
        )
    if has_password(user):
        return _required(ReauthenticationMethod.PASSWORD, why)
    return _elsewhere_or_login(lambda: allauth_page_for(user), why)


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
        except NoReverseMatch:  # the project mounts only `perform_migration`
            return _required(ReauthenticationMethod.LOGIN, why)
    method = ReauthenticationMethod
    hint = {
        method.PASSWORD: 'POST reauthenticate {"password": "…"}, then repeat the request.',
        method.ELSEWHERE: "Reauthenticate at the given address, then repeat the request.",
        method.LOGIN: "Sign out and in again, then repeat the request.",
    }[way]
    return ReauthenticationRequired(why, hint=hint, way=way.value, address=address)


def _format_duration(duration: timedelta) -> str:
    """Return a duration in its largest unit, rounded down."""
    seconds = duration.total_seconds()
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} s" if seconds < 1 else f"{int(seconds)} s"
