"""Views of the JSON API, one for each call of the public contract, and what they share:
responses, errors and the limit of a wait.

Each takes by name what it needs of the parsed request: see `endpoints.Call.view_function`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse

from migration_route.access.actors import Actor
from migration_route.access.isolation import View, isolated_view
from migration_route.access.reauthentication import check_user_password, renew_session
from migration_route.access.sessions import load_session_user
from migration_route.api import requests, streaming
from migration_route.conf import route_settings
from migration_route.core import subprocesses
from migration_route.core.enums import RunState
from migration_route.core.errors import InvalidRequest, MethodNotAllowed, RouteError
from migration_route.ledger.hashchain import ChainHead
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import Details, PlanRequest
from migration_route.presentation import schemas
from migration_route.presentation.serializers import (
    entries_answer,
    events_answer,
    health_answer,
    plan_answer,
    rehearsal_answer,
    rehearsals_answer,
    run_answer,
    runs_answer,
    status_answer,
    terminated_blockers_answer,
    verification_answer,
    with_approval_requirement,
    with_opening,
    with_rehearsal,
)
from migration_route.presentation.text.problems import problem_answer
from migration_route.services import apply as applying
from migration_route.services import approvals as approving
from migration_route.services import (
    control,
    ledger,
    plans,
    reauthentication,
    rehearsals,
    resolve,
    runs,
)
from migration_route.services.evidence import bundle
from migration_route.services.plans import approval_requirement_for
from migration_route.services.response_headers import with_response_headers

logger = logging.getLogger("migration_route.api")


def answer(body: schemas.Answer, *, status: int = 200, location: str = "") -> HttpResponse:
    response = HttpResponse(
        schemas.to_json(body), status=status, content_type="application/json"
    )
    if location:
        response["Location"] = location
    return response


def problem(error: RouteError) -> HttpResponse:
    response = HttpResponse(
        schemas.to_json(problem_answer(error)),
        status=error.http_status,
        content_type="application/problem+json",
    )
    if error.http_status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="migration-route"'
    if seconds := error.facts.get("retry_after"):
        response["Retry-After"] = str(seconds)
    if allow := error.facts.get("allow"):
        response["Allow"] = allow
    return response


def endpoint(methods: Mapping[str, View]) -> View:
    """Return the view of one URL, from a view for each method that it accepts."""
    table = {**methods}
    if "GET" in table:
        table["HEAD"] = table["GET"]
    allow = ", ".join(sorted({*table, "OPTIONS"}))

    def dispatch(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        try:
            with subprocesses.traceparent_scope(request.headers.get("traceparent", "")):
                response = _dispatch(request, **arguments)
        except RouteError as error:
            response = problem(error)
        except Exception:
            logger.exception("Internal error at %s", request.path)
            response = problem(RouteError("Internal error."))
        return with_response_headers(request, response)

    def _dispatch(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers={"Allow": allow})
        view = table.get(request.method or "")
        if view is None:
            raise MethodNotAllowed(f"This URL accepts {allow}.", allow=allow)
        return view(request, **arguments)

    functools.update_wrapper(dispatch, next(iter(methods.values())))
    return isolated_view(dispatch)


def longest_wait() -> float:
    """Return the maximum number of seconds that a request may wait."""
    return route_settings().max_request_wait.total_seconds()


def get_status(actor: Actor) -> schemas.StatusAnswer:
    return status_answer(runs.status(actor))


def get_ready() -> HttpResponse:
    """`GET ready`: 200, or 503 while a required migration is pending."""
    is_ready = runs.ready()
    return answer(schemas.ReadyAnswer(ready=is_ready), status=200 if is_ready else 503)


def get_health(actor: Actor, query: requests.HealthQuery) -> schemas.HealthAnswer:
    wanted = PlanRequest(
        database=query.database, targets=tuple(query.target), phase=query.phase
    )
    found = plans.health(wanted, actor)
    return health_answer(found.database, found.moment, found.ignored)


def get_plan(actor: Actor, query: requests.PlanQuery) -> schemas.PlanAnswer:
    wanted = PlanRequest(
        database=query.database,
        targets=tuple(query.target),
        mode=query.mode,
        phase=query.phase,
    )
    details = None if query.details == "none" else Details(after=query.details)
    found = plans.plan(wanted, actor, details)
    body = with_rehearsal(plan_answer(found), rehearsals.last_rehearsal_of(found, actor))
    body = with_opening(body, plans.next_opening(wanted.database))
    requirement = approval_requirement_for(wanted, found, actor, details)
    return with_approval_requirement(body, requirement)


def get_runs(actor: Actor, query: requests.PageQuery) -> schemas.RunsAnswer:
    found = runs.list_all(
        actor, database=query.database, before=query.before, limit=query.limit
    )
    return runs_answer(found, limit=query.limit)


def post_runs(request: HttpRequest, actor: Actor, body: schemas.CreateRun) -> HttpResponse:
    """`POST runs`: 202, or 200 if it has ended within `Prefer: wait`."""
    if body.fake and body.fake_initial:
        raise InvalidRequest("fake and fake_initial cannot both be true.")
    wanted = applying.ApplyRequest(
        database=body.database,
        targets=tuple(body.targets),
        mode=body.mode,
        fingerprint=body.fingerprint,
        reason=body.reason,
        build=body.build,
        rebuild_invalid_indexes=body.rebuild_invalid_indexes,
        phase=body.phase,
        at=body.at,
        wait_for_window=body.wait_for_window,
        idempotency_key=requests.idempotency_key(request),
    )
    run = applying.apply(wanted, actor)
    return waited_answer(run, actor, seconds=requests.wanted_wait(request))


def waited_answer(run: RunRecord, actor: Actor, *, seconds: float) -> HttpResponse:
    """Return a run: 200 if it has ended within this many seconds, else 202. A run that
    awaits approval is not waited for."""
    awaits_approval = run.state is RunState.AWAITING_APPROVAL
    seconds = 0.0 if awaits_approval else min(seconds, longest_wait())
    if seconds:
        run = runs.wait(run.id, actor, seconds=seconds)
    location = reverse("migration_route:api-run", kwargs={"run": run.id})
    code = 202 if run.is_active or not seconds else 200
    return answer(run_answer(run), status=code, location=location)


def get_run(actor: Actor, run: str) -> schemas.RunAnswer:
    return run_answer(runs.show(run, actor))


EVIDENCE_MEDIA = "application/zip"


def get_evidence(actor: Actor, run: str) -> HttpResponse:
    """`GET runs/{id}/evidence`: a zip file to save."""
    found = bundle(run, actor)
    saved_as = {"Content-Disposition": f'attachment; filename="{found.name}"'}
    return HttpResponse(found.content, content_type=EVIDENCE_MEDIA, headers=saved_as)


def get_events(
    request: HttpRequest, actor: Actor, run: str, query: requests.EventsQuery
) -> schemas.EventsAnswer | HttpResponseBase:
    """`GET runs/{id}/events?after=N`, as JSON or as server-sent events."""
    if streaming.wants_stream(request):
        after = streaming.after_last_event(request, query.after)
        return streaming.stream(request, run, actor, after=after)
    found = runs.events(run, actor, after=query.after, limit=query.limit)
    return events_answer(found)


def post_cancel(actor: Actor, run: str, body: schemas.CancelRun) -> schemas.RunAnswer:
    found = control.cancel(run, actor, reason=body.reason, force=body.force)
    return run_answer(found)


def post_pause(actor: Actor, run: str, body: schemas.GiveReason) -> schemas.RunAnswer:
    return run_answer(control.pause(run, actor, reason=body.reason))


def post_resume(actor: Actor, run: str, body: schemas.ResumeRun) -> schemas.RunAnswer:
    found = control.resume(run, actor, reason=body.reason, force=body.force)
    return run_answer(found)


def post_resolve(actor: Actor, run: str, body: schemas.Resolve) -> schemas.RunAnswer:
    found = resolve.resolve(run, actor, reason=body.reason, how=body.how)
    return run_answer(found)


def post_terminate_blockers(
    actor: Actor, run: str, body: schemas.GiveReason
) -> schemas.TerminatedBlockersAnswer:
    found = control.terminate_blockers(run, actor, reason=body.reason)
    return terminated_blockers_answer(found.run, found.terminated, found.not_terminated)


def post_approve(actor: Actor, run: str, body: schemas.GiveReason) -> schemas.RunAnswer:
    """`POST runs/{id}/approve`: the last required approval starts the run."""
    return run_answer(approving.approve(run, actor, reason=body.reason))


def post_reject(actor: Actor, run: str, body: schemas.GiveReason) -> schemas.RunAnswer:
    return run_answer(approving.reject(run, actor, reason=body.reason))


def get_rehearsals(actor: Actor, query: requests.PageQuery) -> schemas.RehearsalsAnswer:
    found = rehearsals.list_all(
        actor, database=query.database, before=query.before, limit=query.limit
    )
    return rehearsals_answer(found, limit=query.limit)


def post_rehearsals(
    request: HttpRequest, actor: Actor, body: schemas.CreateRehearsal
) -> HttpResponse:
    """`POST rehearsals`: 202, or 200 if it has ended within `Prefer: wait`."""
    wanted = rehearsals.RehearseRequest(
        database=body.database,
        targets=tuple(body.targets),
        phase=body.phase,
        fingerprint=body.fingerprint,
        kind=body.kind,
        round_trip=body.round_trip,
        in_place=body.in_place,
        reason=body.reason,
    )
    record = rehearsals.rehearse(wanted, actor)
    seconds = min(requests.wanted_wait(request), longest_wait())
    if seconds:
        record = rehearsals.wait(record.id, actor, seconds=seconds)
    location = reverse("migration_route:api-rehearsal", kwargs={"rehearsal": record.id})
    code = 202 if record.is_active or not seconds else 200
    return answer(rehearsal_answer(record), status=code, location=location)


def get_rehearsal(actor: Actor, rehearsal: str) -> schemas.RehearsalAnswer:
    return rehearsal_answer(rehearsals.show(rehearsal, actor))


def get_ledger(actor: Actor, query: requests.EntriesQuery) -> schemas.EntriesAnswer:
    found = ledger.entries(actor, before=query.before, limit=query.limit)
    return entries_answer(found, limit=query.limit)


def get_verification(
    actor: Actor, query: requests.VerifyQuery
) -> schemas.VerificationAnswer:
    head = None if query.head is None else ChainHead.parse(query.head)
    return verification_answer(ledger.verify(actor, head=head))


def post_reauthenticate(
    request: HttpRequest, actor: Actor, body: schemas.Reauthenticate
) -> HttpResponse:
    """`POST reauthenticate`: 204 with a new session cookie if the password is correct."""

    def is_right() -> bool:
        user = load_session_user(request, address=actor.address).user
        return check_user_password(user, body.password, request)

    def renew() -> None:
        renew_session(request, load_session_user(request, address=actor.address).user)

    reauthentication.reauthenticate(actor, is_right=is_right, renew=renew)
    return HttpResponse(status=204)
