"""The page that a developer sees instead of an error while migrations are pending.

It works without users and sessions, whose tables may be pending themselves. A form on it
names one plan and is signed, so that another website can neither read nor forge it.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from migration_route.access.actors import shell_actor
from migration_route.access.networks import client_address
from migration_route.conf.databases import all_aliases
from migration_route.core.enums import SUCCESS_STATES
from migration_route.core.errors import RouteError
from migration_route.core.risk import Risk, risk_of
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import DEFAULT_DETAILS, PlanRequest
from migration_route.services import apply as applying
from migration_route.services import plans as planning
from migration_route.services import runs
from migration_route.web.plans import PlanView, plan_view
from migration_route.web.rendering import render_without_request
from migration_route.web.runs import RunView, run_view

FIELD = "migration_route_plan"
"""The field of the form; a request without it is not for this page."""

_SALT = "migration_route.development"
_VALID = 3600  # seconds
_WAIT = 20.0
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingPlan:
    """What is pending on one database."""

    database: str
    view: PlanView | None
    risk: Risk | None
    token: str  # "" if the plan cannot be applied from here
    problem: RouteError | None


def pending_page(request: HttpRequest) -> HttpResponse:
    """Return the plans of all databases with pending migrations, each with its button."""
    return _page(request)


def apply_from_page(request: HttpRequest) -> HttpResponse:
    """Apply the plan that the form names, and return to the address of the request."""
    if not _is_local(request):
        return _page(request)
    try:
        wanted = signing.loads(request.POST[FIELD], salt=_SALT, max_age=_VALID)
        run = applying.apply(
            applying.ApplyRequest(
                database=wanted["database"],
                fingerprint=wanted["fingerprint"],
                reason="development",
                wait_for_window=False,
            ),
            shell_actor(),
        )
        run = runs.wait(run.id, shell_actor(), seconds=_WAIT)
    except signing.BadSignature:
        return _page(request)  # too old, or not from this page: the plan is shown again
    except RouteError as error:
        return _page(request, problem=error)
    if run.state not in SUCCESS_STATES:
        return _page(request, run=run)
    response = HttpResponseRedirect(request.get_full_path())
    response.status_code = 303
    return response


def _page(
    request: HttpRequest,
    *,
    run: RunRecord | None = None,
    problem: RouteError | None = None,
) -> HttpResponse:
    request.get_host()  # raises DisallowedHost for a name that is not this site's
    is_local = _is_local(request)
    plans = [_pending(alias, is_local=is_local) for alias in all_aliases()]
    shown: RunView | None = run_view(run) if run else None
    context = {
        "title": "Migrations are pending",
        "plans": [plan for plan in plans if plan.problem or plan.view],
        "field": FIELD,
        "run": shown,
        "problem": problem,
        "is_local": is_local,
        "path": request.get_full_path(),
    }
    return render_without_request("pending", context, status=503)


def _is_local(request: HttpRequest) -> bool:
    return client_address(request.META) in _LOOPBACK


def _pending(alias: str, *, is_local: bool) -> PendingPlan:
    actor = shell_actor()
    try:
        plan = planning.plan(PlanRequest(database=alias), actor, DEFAULT_DETAILS)
    except RouteError as error:
        return PendingPlan(database=alias, view=None, risk=None, token="", problem=error)
    if not plan.steps:
        return PendingPlan(database=alias, view=None, risk=None, token="", problem=None)
    view = plan_view(plan, actor, DEFAULT_DETAILS)
    words = {"database": alias, "fingerprint": plan.fingerprint}
    return PendingPlan(
        database=alias,
        view=view,
        risk=risk_of(view.findings),
        token=signing.dumps(words, salt=_SALT) if is_local and view.is_offered else "",
        problem=None,
    )
