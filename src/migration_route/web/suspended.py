"""What becomes of a form that was sent with a login that is too old?

The page asks for the password and carries the fields of the form, so that the action is
carried out once the password is right. Where the login is shown elsewhere, the form is
kept in the session for a while, and offered when the person has come back.
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect

from migration_route.access.actor import Actor
from migration_route.access.reauthentication.freshness import Way
from migration_route.access.reauthentication.passwords import is_password_of, renew
from migration_route.access.requests import find_actor
from migration_route.access.sessions import recognise
from migration_route.errors import ReauthenticationRequired, RouteError
from migration_route.operations.reauthenticate import reauthenticate
from migration_route.web import kept
from migration_route.web.rendering import render

FIELD = "password-of-this-login"
"""The field of the password, among those of the form."""


def go_on(
    request: HttpRequest, actor: Actor, flaw: ReauthenticationRequired
) -> Actor | HttpResponse:
    """Return the actor with a fresh login, or the page that asks for one.

    Raises the flaw where there is no way but to sign in again, and `FormTooLarge`.
    """
    match flaw.facts["way"]:
        case Way.PASSWORD:
            return _by_password(request, actor, flaw)
        case Way.ELSEWHERE:
            kept.keep(request)
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
        user = recognise(request, address=actor.address).user
        return is_password_of(user, password, request)

    def renew_session() -> None:
        renew(request, recognise(request, address=actor.address).user)

    try:
        reauthenticate(actor, is_right=is_right, renew=renew_session)
    except RouteError as error:
        return _page(request, actor, flaw, problem=error)
    return find_actor(request)


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
            "form": kept.form_of(request, but=FIELD),
            "field": FIELD,
            "name": actor.name,
            "flaw": flaw,
            "problem": problem,
        },
        status=(problem or flaw).http_status,
    )


def show(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Offer what was kept while its sender showed elsewhere who they are."""
    form = kept.found(request)
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
