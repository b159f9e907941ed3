"""Forms that were submitted with a login that is too old.

The password page repeats the fields of the form, so that the action is carried out once the
password is correct. If reauthentication happens on another page, the form is stored in the
session, limited in size and for a short time, and offered again after the login.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect

from migration_route.access.actors import Actor
from migration_route.access.authentication import authenticate
from migration_route.access.reauthentication import (
    ReauthenticationMethod,
    check_user_password,
    renew_session,
)
from migration_route.access.sessions import load_session_user
from migration_route.core import clock
from migration_route.core.errors import InvalidRequest, ReauthenticationRequired, RouteError
from migration_route.services.reauthentication import reauthenticate
from migration_route.web.rendering import render

_KEY = "_migration_route_kept"
_LIFETIME = timedelta(minutes=10)
_MOST_FIELDS = 500
_MOST_CHARACTERS = 64 * 1024
_MOST_IN_A_SESSION = 16 * 1024
_MOST_IN_A_COOKIE = 1500  # browsers allow 4096 bytes, including signature and other data
_SECRET = ("password", "permit", "secret", "token")  # parts of field names
_SHOWN = ("database", "target", "phase", "run", "reason")


class FormTooLarge(InvalidRequest):
    """The form is too large to be kept during reauthentication."""

    http_status = 413
    hint = "Sign out and in again, then submit the form again."


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingForm:
    """A submitted form that is to be submitted again."""

    path: str
    verb: str  # the action, as the page names it
    fields: tuple[tuple[str, str], ...]
    shown: tuple[tuple[str, str], ...]  # the fields that the page shows


def form_of(request: HttpRequest, *, but: str = "") -> PendingForm:
    """Return the form of a request, without its secrets and the field `but`.

    Raises `FormTooLarge`.
    """
    fields = [
        (name, str(value))
        for name, values in request.POST.lists()
        for value in values
        if name != but and not any(word in name.lower() for word in _SECRET)
    ]
    size = sum(len(name) + len(value) for name, value in fields)
    if len(fields) > _MOST_FIELDS or size > _MOST_CHARACTERS:
        raise FormTooLarge
    match = request.resolver_match
    verb = (match.url_name if match else None) or "continue"
    url_arguments = match.kwargs.items() if match else ()
    visible = [(name, str(value)) for name, value in (*url_arguments, *fields)]
    return PendingForm(
        path=request.get_full_path(),
        verb=verb.replace("-", " "),
        fields=tuple(fields),
        shown=tuple((name, value) for name, value in visible if name in _SHOWN and value),
    )


def store(request: HttpRequest) -> None:
    """Store the form of a request in its session, unless it is too large for that."""
    session = request.session
    form = form_of(request)
    stored = {
        "user": session.get(SESSION_KEY),
        "at": clock.now(),
        **asdict(form),
    }
    in_a_cookie = settings.SESSION_ENGINE.endswith("signed_cookies")
    most = _MOST_IN_A_COOKIE if in_a_cookie else _MOST_IN_A_SESSION
    if len(json.dumps(stored)) <= most:
        session[_KEY] = stored


def load(request: HttpRequest) -> PendingForm | None:
    """Return the form that this user stored recently, if any."""
    stored: Any = request.session.get(_KEY)
    if not isinstance(stored, dict) or stored.get("user") != request.session.get(
        SESSION_KEY
    ):
        return None
    age = clock.age(stored["at"])
    if not timedelta(0) <= age < _LIFETIME:
        return None
    return PendingForm(
        path=stored["path"],
        verb=stored["verb"],
        fields=tuple((name, value) for name, value in stored["fields"]),
        shown=tuple((name, value) for name, value in stored["shown"]),
    )


def discard(request: HttpRequest) -> None:
    """Delete the stored form: another one was submitted."""
    session = getattr(request, "session", None)
    if session is not None and _KEY in session:
        del session[_KEY]


FIELD = "password-of-this-login"
"""The name of the password field, which must not clash with the fields of the form."""


def reauthenticate_and_continue(
    request: HttpRequest, actor: Actor, access_error: ReauthenticationRequired
) -> Actor | HttpResponse:
    """Return the actor with a fresh login, or the page or redirect that asks for one.

    Raises `access_error` if signing in again is the only way, and `FormTooLarge`.
    """
    match access_error.facts["way"]:
        case ReauthenticationMethod.PASSWORD:
            return _by_password(request, actor, access_error)
        case ReauthenticationMethod.ELSEWHERE:
            store(request)
            return HttpResponseRedirect(access_error.facts["address"])
        case _:
            raise access_error


def _by_password(
    request: HttpRequest, actor: Actor, access_error: ReauthenticationRequired
) -> Actor | HttpResponse:
    password = request.POST.get(FIELD)
    if not password:
        return _page(request, actor, access_error)

    def is_correct() -> bool:
        user = load_session_user(request, address=actor.address).user
        return check_user_password(user, password, request)

    def renew() -> None:
        renew_session(request, load_session_user(request, address=actor.address).user)

    try:
        reauthenticate(actor, is_right=is_correct, renew=renew)
    except RouteError as error:
        return _page(request, actor, access_error, problem=error)
    return authenticate(request)


def _page(
    request: HttpRequest,
    actor: Actor,
    access_error: ReauthenticationRequired,
    *,
    problem: RouteError | None = None,
) -> HttpResponse:
    return render(
        request,
        actor,
        "password",
        {
            "title": "Confirm your password",
            "form": form_of(request, but=FIELD),
            "field": FIELD,
            "name": actor.name,
            "access_error": access_error,
            "problem": problem,
        },
        status=(problem or access_error).http_status,
    )


def show(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Offer the stored form after reauthentication on another page."""
    form = load(request)
    if form is None:
        return redirect("migration_route:dashboard")
    return render(
        request, actor, "suspended", {"title": "Confirm to continue", "form": form}
    )


def without_password(request: HttpRequest) -> None:
    """Remove the password from the form: later code has no use for it."""
    if FIELD in request.POST:
        fields = request.POST.copy()
        del fields[FIELD]
        request.POST = fields  # type: ignore[assignment]


def with_session(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Set the cookie with the new session key on a 5xx response too: Django's middleware
    does not, and the old key is no longer valid."""
    session = request.session
    if response.status_code >= 500 and session.session_key:
        closes = session.get_expire_at_browser_close()
        response.set_cookie(
            settings.SESSION_COOKIE_NAME,
            session.session_key,
            max_age=None if closes else session.get_expiry_age(),
            domain=settings.SESSION_COOKIE_DOMAIN,
            path=settings.SESSION_COOKIE_PATH,
            secure=bool(settings.SESSION_COOKIE_SECURE),
            httponly=bool(settings.SESSION_COOKIE_HTTPONLY),
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )
    return response
