"""Views of the JSON API, one for each call of the public contract."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse

from migration_route.access.actors import Actor
from migration_route.access.authentication import authenticate
from migration_route.access.reauthentication import check_user_password, renew_session
from migration_route.access.sessions import load_session_user
from migration_route.api import requests, streaming
from migration_route.api.base import answer, longest_wait
from migration_route.api.openapi import document
from migration_route.core.enums import Mode, RunState
from migration_route.core.errors import InvalidRequest
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import PlanRequest
from migration_route.presentation import schemas, serializers
from migration_route.presentation.rehearsal_serializers import (
    rehearsal_answer,
    rehearsals_answer,
    with_rehearsal,
)
from migration_route.presentation.serializers import (
    plan_answer,
    run_answer,
    with_approval_requirement,
    with_opening,
)
from migration_route.services import apply as applying
from migration_route.services import approvals as approving
from migration_route.services import (
    control,
    launch,
    ledger,
    plans,
    reauthentication,
    rehearsals,
    resolve,
    runs,
)
from migration_route.services.decisions import approval_requirement_for


def post_approve(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/approve`: the last required approval starts the run."""
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.GiveReason)
    return answer(run_answer(approving.approve(run, actor, reason=body.reason)))


def post_reject(request: HttpRequest, run: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.GiveReason)
    return answer(run_answer(approving.reject(run, actor, reason=body.reason)))


def post_reauthenticate(request: HttpRequest) -> HttpResponse:
    """`POST reauthenticate`: 204 with a new session cookie if the password is correct."""
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.Reauthenticate)

    def is_right() -> bool:
        user = load_session_user(request, address=actor.address).user
        return check_user_password(user, body.password, request)

    def renew() -> None:
        renew_session(request, load_session_user(request, address=actor.address).user)

    reauthentication.reauthenticate(actor, is_right=is_right, renew=renew)
    return HttpResponse(status=204)


_PAGE = 20
_LARGEST_PAGE = 200


def get_rehearsals(request: HttpRequest) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ("database", "before", "limit"))
    limit = requests.number(request, "limit", default=_PAGE, least=1, most=_LARGEST_PAGE)
    found = rehearsals.list_all(
        actor,
        database=request.GET.get("database"),
        before=request.GET.get("before"),
        limit=limit,
    )
    return answer(rehearsals_answer(found, limit=limit))


def post_rehearsals(request: HttpRequest) -> HttpResponse:
    """`POST rehearsals`: 202, or 200 if it has ended within `Prefer: wait`."""
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.CreateRehearsal)
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
    seconds = min(requests.wanted_wait(request), longest_wait(request))
    if seconds:
        record = rehearsals.wait(record.id, actor, seconds=seconds)
    location = reverse("migration_route:api-rehearsal", kwargs={"rehearsal": record.id})
    code = 202 if record.is_active or not seconds else 200
    return answer(rehearsal_answer(record), status=code, location=location)


def get_rehearsal(request: HttpRequest, rehearsal: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    return answer(rehearsal_answer(rehearsals.show(rehearsal, actor)))


_EVENTS = 500
_LARGEST_NUMBER = 2**63 - 1


def get_status(request: HttpRequest) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    return answer(serializers.status_answer(runs.status(actor)))


def get_ready(request: HttpRequest) -> HttpResponse:
    """`GET ready`: 200, or 503 while a required migration is pending."""
    requests.check_query(request, ())
    is_ready = runs.ready()
    return answer(schemas.ReadyAnswer(ready=is_ready), status=200 if is_ready else 503)


def get_plan(request: HttpRequest) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ("database", "target", "mode", "phase", "details"))
    wanted = PlanRequest(
        database=request.GET.get("database", "default"),
        targets=tuple(request.GET.getlist("target")),
        mode=requests.mode_of(request),
        phase=requests.phase_of(request),
    )
    details = requests.details_of(request)
    found = plans.plan(wanted, actor, details)
    last = rehearsals.last_rehearsal_of(found, actor)
    body = with_rehearsal(plan_answer(found), last)
    body = with_opening(body, launch.next_opening(wanted.database))
    return answer(
        with_approval_requirement(
            body, approval_requirement_for(wanted, found, actor, details)
        )
    )


def get_health(request: HttpRequest) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ("database", "target", "phase"))
    wanted = PlanRequest(
        database=request.GET.get("database", "default"),
        targets=tuple(request.GET.getlist("target")),
        phase=requests.phase_of(request),
    )
    found = plans.health(wanted, actor)
    return answer(serializers.health_answer(found.database, found.moment, found.ignored))


def get_runs(request: HttpRequest) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ("database", "before", "limit"))
    limit = requests.number(request, "limit", default=_PAGE, least=1, most=_LARGEST_PAGE)
    found = runs.list_all(
        actor,
        database=request.GET.get("database"),
        before=request.GET.get("before"),
        limit=limit,
    )
    return answer(serializers.runs_answer(found, limit=limit))


def post_runs(request: HttpRequest) -> HttpResponse:
    """`POST runs`: 202, or 200 if it has ended within `Prefer: wait`."""
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.CreateRun)
    if body.fake and body.fake_initial:
        raise InvalidRequest("fake and fake_initial cannot both be true.")
    mode = (
        Mode.FAKE if body.fake else Mode.FAKE_INITIAL if body.fake_initial else Mode.APPLY
    )
    wanted = applying.ApplyRequest(
        database=body.database,
        targets=tuple(body.targets),
        mode=mode,
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
    return waited_answer(request, run, actor, seconds=requests.wanted_wait(request))


def waited_answer(
    request: HttpRequest, run: RunRecord, actor: Actor, *, seconds: float
) -> HttpResponse:
    """Return a run: 200 if it has ended within this many seconds, else 202. A run that
    awaits approval is not waited for."""
    awaits_approval = run.state is RunState.AWAITING_APPROVAL
    seconds = 0.0 if awaits_approval else min(seconds, longest_wait(request))
    if seconds:
        run = runs.wait(run.id, actor, seconds=seconds)
    location = reverse("migration_route:api-run", kwargs={"run": run.id})
    code = 202 if run.is_active or not seconds else 200
    return answer(serializers.run_answer(run), status=code, location=location)


def get_run(request: HttpRequest, run: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    return answer(serializers.run_answer(runs.show(run, actor)))


def get_events(request: HttpRequest, run: str) -> HttpResponseBase:
    """`GET runs/{id}/events?after=N`, as JSON or as server-sent events."""
    actor = authenticate(request)
    requests.check_query(request, ("after", "limit"))
    after = requests.number(request, "after", default=0, least=0, most=_LARGEST_NUMBER)
    if streaming.wants_stream(request):
        after = streaming.after_last_event(request, after)
        return streaming.stream(request, run, actor, after=after)
    limit = requests.number(request, "limit", default=_EVENTS, least=1, most=_EVENTS)
    found = runs.events(run, actor, after=after, limit=limit)
    return answer(serializers.events_answer(found))


def post_cancel(request: HttpRequest, run: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.CancelRun)
    found = control.cancel(run, actor, reason=body.reason, force=body.force)
    return answer(serializers.run_answer(found))


def post_pause(request: HttpRequest, run: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.GiveReason)
    return answer(serializers.run_answer(control.pause(run, actor, reason=body.reason)))


def post_resume(request: HttpRequest, run: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.ResumeRun)
    found = control.resume(run, actor, reason=body.reason, force=body.force)
    return answer(serializers.run_answer(found))


def post_resolve(request: HttpRequest, run: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.Resolve)
    found = resolve.resolve(run, actor, reason=body.reason, how=body.how)
    return answer(serializers.run_answer(found))


def post_terminate_blockers(request: HttpRequest, run: str) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    body = requests.body_of(request, schemas.GiveReason)
    found = control.terminate_blockers(run, actor, reason=body.reason)
    return answer(
        serializers.terminated_blockers_answer(
            found.run, found.terminated, found.not_terminated
        )
    )


def get_ledger(request: HttpRequest) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ("before", "limit"))
    limit = requests.number(request, "limit", default=_PAGE, least=1, most=_LARGEST_PAGE)
    before = requests.number(
        request, "before", default=_LARGEST_NUMBER, least=1, most=_LARGEST_NUMBER
    )
    return answer(
        serializers.entries_answer(
            ledger.entries(actor, before=before, limit=limit), limit=limit
        )
    )


def get_verification(request: HttpRequest) -> HttpResponse:
    actor = authenticate(request)
    requests.check_query(request, ())
    return answer(serializers.verification_answer(ledger.verify(actor)))


def get_openapi(request: HttpRequest) -> HttpResponse:
    """`GET openapi.json`: public, and the same for every caller."""
    requests.check_query(request, ())
    base = reverse("migration_route:api-status").removesuffix("/status")
    return HttpResponse(document(base), content_type="application/json")
