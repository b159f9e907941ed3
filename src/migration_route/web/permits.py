"""The page «Apply with a permit»: it looks at no user and no session.

The permit is the whole of what is needed: it says who has given it, and for which plan.
Nobody can send a form with it who does not have it, so there is no CSRF token.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from migration_route.access.actors import Actor
from migration_route.access.authentication import authenticate_permit_form, permit_in_form
from migration_route.access.isolation import isolated_view
from migration_route.core.errors import MethodNotAllowed, RouteError
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import AT_FIRST
from migration_route.services import apply as applying
from migration_route.services import permit_redemption, runs
from migration_route.services import plans as planning
from migration_route.services.response_headers import stamped
from migration_route.web.formatting import moment
from migration_route.web.plans import plan_view
from migration_route.web.rendering import (
    PagesUnavailable,
    render_without_request,
    render_without_templates,
)
from migration_route.web.runs import run_view

_LOOK = 2.0  # seconds for which the answer waits for an end; no server is that impatient
_ALLOW = "GET, HEAD, OPTIONS, POST"


def _dispatch(request: HttpRequest) -> HttpResponseBase:
    return stamped(request, _answer(request))


permit_view = isolated_view(_dispatch)
"""Shows the form; with a permit, shows its plan, carries it out, or shows its run."""


def _answer(request: HttpRequest) -> HttpResponse:
    if request.method == "OPTIONS":
        return HttpResponse(status=204, headers={"Allow": _ALLOW})
    if request.method in {"GET", "HEAD"}:
        return _page()
    try:
        if request.method != "POST":
            raise MethodNotAllowed(f"This address answers to {_ALLOW}.", allow=_ALLOW)
        return _of_form(request)
    except PagesUnavailable as error:
        return render_without_templates(error)
    except RouteError as error:
        try:
            response = _page(status=error.http_status, error=error)
        except PagesUnavailable as missing:
            return render_without_templates(missing)
        if allow := error.facts.get("allow"):
            response["Allow"] = allow
        return response


def _of_form(request: HttpRequest) -> HttpResponse:
    text = permit_in_form(request)
    actor = authenticate_permit_form(request, text)
    permit = permit_redemption.require_permit(actor)
    if request.POST.get("do") == "apply":
        begun = applying.apply(permit_redemption.apply_request(permit), actor)
        return _run_page(runs.wait(begun.id, actor, seconds=_LOOK), text)
    found = permit_redemption.run_using(permit, actor)
    return _run_page(found, text) if found else _plan_page(actor, text)


def _plan_page(actor: Actor, text: str) -> HttpResponse:
    permit = permit_redemption.require_permit(actor)
    found = planning.plan(permit_redemption.plan_request(permit), actor, AT_FIRST)
    return _page(
        permit=permit,
        expires=moment(permit.expires),
        text=text,
        plan=plan_view(found, actor, AT_FIRST),
        is_this=permit_redemption.matches(permit, found),
    )


def _run_page(run: RunRecord, text: str) -> HttpResponse:
    return _page(run=run_view(run), text=text)


def _page(*, status: int = 200, **context: Any) -> HttpResponse:
    words = {"title": "Apply with a permit", **context}
    return render_without_request("permit", words, status=status)
