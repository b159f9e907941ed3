"""What becomes of a form that was sent with a login that is too old?

The page asks for the password and carries the fields of the form, so that the action is
carried out once the password is right. Where the login is shown elsewhere, the form is
kept in the session for a while, and offered when the person has come back.

How is a form kept that waits for a fresh login? Bounded, and for a short time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    is_password_of,
    renew,
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
_MOST_IN_A_COOKIE = 1500  # a browser keeps 4096 bytes, signed and with all the rest
_SECRET = ("password", "permit", "secret", "token")  # in the name of a field
_SHOWN = ("database", "target", "phase", "run", "reason")


class FormTooLarge(InvalidRequest):
    """This form is too large to be carried along."""

    http_status = 413
    hint = "Sign out and in again, then send it."


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingForm:
    """A form that was sent, and is to be sent again."""

    path: str
    verb: str  # what it does, as the page says it
    fields: tuple[tuple[str, str], ...]
    shown: tuple[tuple[str, str], ...]  # those that tell a person what it is about


def form_of(request: HttpRequest, *, but: str = "") -> PendingForm:
    """Return the form that came with a request, without what is secret in it.

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
    verb = (match.url_name if match else None) or "go on"
    of_address = match.kwargs.items() if match else ()
    about = [(name, str(value)) for name, value in (*of_address, *fields)]
    return PendingForm(
        path=request.get_full_path(),
        verb=verb.replace("-", " "),
        fields=tuple(fields),
        shown=tuple((name, value) for name, value in about if name in _SHOWN and value),
    )


def store(request: HttpRequest) -> None:
    """Keep the form of a request in its session, if it is not too large for that."""
    session = request.session
    form = form_of(request)
    words = {
        "user": session.get(SESSION_KEY),
        "at": clock.now(),
        "path": form.path,
        "verb": form.verb,
        "fields": form.fields,
        "shown": form.shown,
    }
    in_a_cookie = settings.SESSION_ENGINE.endswith("signed_cookies")
    most = _MOST_IN_A_COOKIE if in_a_cookie else _MOST_IN_A_SESSION
    if len(json.dumps(words)) <= most:
        session[_KEY] = words


def load(request: HttpRequest) -> PendingForm | None:
    """Return what this person has kept a short while ago, if anything."""
    words: Any = request.session.get(_KEY)
    if not isinstance(words, dict) or words.get("user") != request.session.get(SESSION_KEY):
        return None
    since = clock.age(words["at"])
    if not timedelta(0) <= since < _LIFETIME:
        return None
    return PendingForm(
        path=words["path"],
        verb=words["verb"],
        fields=tuple((name, value) for name, value in words["fields"]),
        shown=tuple((name, value) for name, value in words["shown"]),
    )


def discard(request: HttpRequest) -> None:
    """Forget what was kept: something was sent."""
    session = getattr(request, "session", None)
    if session is not None and _KEY in session:
        del session[_KEY]


FIELD = "password-of-this-login"
"""The field of the password, among those of the form."""


def reauthenticate_and_continue(
    request: HttpRequest, actor: Actor, flaw: ReauthenticationRequired
) -> Actor | HttpResponse:
    """Return the actor with a fresh login, or the page that asks for one.

    Raises the flaw where there is no way but to sign in again, and `FormTooLarge`.
    """
    match flaw.facts["way"]:
        case ReauthenticationMethod.PASSWORD:
            return _by_password(request, actor, flaw)
        case ReauthenticationMethod.ELSEWHERE:
            store(request)
            return HttpResponseRedirect(flaw.facts["address"])
        case _:
            raise flaw


def _by_password(
    request: HttpRequest, actor: Actor, flaw: ReauthenticationRequired
) -> Actor | HttpResponse:
    password = request.POST.get(FIELD)
    if not password:
        return _page(request, actor, flaw)

    def is_right() -> bool:
        user = load_session_user(request, address=actor.address).user
        return is_password_of(user, password, request)

    def renew_session() -> None:
        renew(request, load_session_user(request, address=actor.address).user)

    try:
        reauthenticate(actor, is_right=is_right, renew=renew_session)
    except RouteError as error:
        return _page(request, actor, flaw, problem=error)
    return authenticate(request)


def _page(
    request: HttpRequest,
    actor: Actor,
    flaw: ReauthenticationRequired,
    *,
    problem: RouteError | None = None,
) -> HttpResponse:
    return render(
        request,
        actor,
        "password",
        {
            "title": "Your password, please",
            "form": form_of(request, but=FIELD),
            "field": FIELD,
            "name": actor.name,
            "flaw": flaw,
            "problem": problem,
        },
        status=(problem or flaw).http_status,
    )


def show(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Offer what was kept while its sender showed elsewhere who they are."""
    form = load(request)
    if form is None:
        return redirect("migration_route:dashboard")
    return render(request, actor, "suspended", {"title": "Go on?", "form": form})


def without_password(request: HttpRequest) -> None:
    """Take the password out of the form: what comes after has no use for it."""
    if FIELD in request.POST:
        fields = request.POST.copy()
        del fields[FIELD]
        request.POST = fields  # type: ignore[assignment]


def with_session(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Hand out the new key of the session also with an answer that says that something
    went wrong: Django's middleware does not, and the old key is gone."""
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
