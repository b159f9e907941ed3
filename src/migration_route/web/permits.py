"""The page "Apply with a permit", which uses no user and no session.

The permit is the only credential: it names its issuer and its plan. A forged form would
have to contain the permit, so there is no CSRF token.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from migration_route.access.actors import Actor
from migration_route.access.authentication import authenticate_permit_form, permit_in_form
from migration_route.core.errors import MethodNotAllowed, RouteError
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import DEFAULT_DETAILS
from migration_route.services import apply as applying
from migration_route.services import permits, runs
from migration_route.services import plans as planning
from migration_route.web.base import isolated_page
from migration_route.web.plans import plan_view
from migration_route.web.rendering import render_without_request
from migration_route.web.runs import run_view

_WAIT = 2.0
"""Seconds for which the response waits for the run to end; below any server's timeout."""
_ALLOW = "GET, HEAD, OPTIONS, POST"


@isolated_page
def permit_view(request: HttpRequest) -> HttpResponse:
    """Show the form; with a permit, show its plan, apply it, or show its run."""
    if request.method == "OPTIONS":
        return HttpResponse(status=204, headers={"Allow": _ALLOW})
    if request.method in {"GET", "HEAD"}:
        return _page()
    try:
        if request.method != "POST":
            raise MethodNotAllowed(f"This URL accepts {_ALLOW}.", allow=_ALLOW)
        return _answer_form(request)
    except RouteError as error:
        response = _page(status=error.http_status, error=error)
        if allow := error.facts.get("allow"):
            response["Allow"] = allow
        return response


def _answer_form(request: HttpRequest) -> HttpResponse:
    text = permit_in_form(request)
    actor = authenticate_permit_form(request, text)
    permit = permits.require_permit(actor)
    if request.POST.get("do") == "apply":
        run = applying.apply(permits.apply_request(permit), actor)
        return _run_page(runs.wait(run.id, actor, seconds=_WAIT), text)
    used_by = permits.run_using(permit, actor)
    return _run_page(used_by, text) if used_by else _plan_page(actor, text)


def _plan_page(actor: Actor, text: str) -> HttpResponse:
    permit = permits.require_permit(actor)
    plan = planning.plan(permits.apply_request(permit), actor, DEFAULT_DETAILS)
    return _page(
        permit=permit,
        text=text,
        plan=plan_view(plan, actor, DEFAULT_DETAILS),
        is_this=permits.permits_plan(permit, plan),
    )


def _run_page(run: RunRecord, text: str) -> HttpResponse:
    return _page(run=run_view(run), text=text)


def _page(*, status: int = 200, **context: Any) -> HttpResponse:
    context = {"title": "Apply with a permit", **context}
    return render_without_request("permit", context, status=status)
