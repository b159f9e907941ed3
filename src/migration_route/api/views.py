"""The JSON API: one function for each call of the public contract."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse

from migration_route import wire
from migration_route.access.actor import Actor
from migration_route.access.requests import find_actor
from migration_route.api import parsing, streaming
from migration_route.api.endpoints import answer
from migration_route.api.openapi import document
from migration_route.api.patience import longest_wait
from migration_route.errors import InvalidRequest
from migration_route.ledger.records import RunRecord
from migration_route.operations import apply as applying
from migration_route.operations import (
    cancel,
    end_blockers,
    health,
    hold,
    ledger,
    opening,
    plan,
    ready,
    rehearse,
    resolve,
    runs,
    status,
)
from migration_route.operations.weighing import demanded_of
from migration_route.planning.plan import PlanRequest
from migration_route.reporting import serialize
from migration_route.reporting.approvals import with_demand
from migration_route.reporting.openings import with_opening
from migration_route.reporting.plans import plan_answer
from migration_route.reporting.rehearsals import with_rehearsal
from migration_route.vocabulary import Mode, RunState

_PAGE = 20
_LARGEST_PAGE = 200
_EVENTS = 500
_LARGEST_NUMBER = 2**63 - 1


def get_status(request: HttpRequest) -> HttpResponse:
    """`GET status`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    return answer(serialize.status_answer(status.status(actor)))


def get_ready(request: HttpRequest) -> HttpResponse:
    """`GET ready`: 200, or 503 while something that is required is pending."""
    parsing.check_query(request, ())
    is_ready = ready.ready()
    return answer(wire.ReadyAnswer(ready=is_ready), status=200 if is_ready else 503)


def get_plan(request: HttpRequest) -> HttpResponse:
    """`GET plan?database=…&target=…&mode=…&phase=…&details=…`."""
    actor = find_actor(request)
    parsing.check_query(request, ("database", "target", "mode", "phase", "details"))
    wanted = PlanRequest(
        database=request.GET.get("database", "default"),
        targets=tuple(request.GET.getlist("target")),
        mode=parsing.mode_of(request),
        phase=parsing.phase_of(request),
    )
    details = parsing.details_of(request)
    found = plan.plan(wanted, actor, details)
    last = rehearse.of_plan(found, actor)
    told = with_rehearsal(plan_answer(found), last)
    told = with_opening(told, opening.opens(wanted.database))
    return answer(with_demand(told, demanded_of(wanted, found, actor, details)))


def get_health(request: HttpRequest) -> HttpResponse:
    """`GET health?database=…&target=…&phase=…`: is now a good moment for this plan?"""
    actor = find_actor(request)
    parsing.check_query(request, ("database", "target", "phase"))
    wanted = PlanRequest(
        database=request.GET.get("database", "default"),
        targets=tuple(request.GET.getlist("target")),
        phase=parsing.phase_of(request),
    )
    found = health.health(wanted, actor)
    return answer(serialize.health_answer(found.database, found.moment, found.ignored))


def get_runs(request: HttpRequest) -> HttpResponse:
    """`GET runs?database=…&before=…&limit=…`, newest first."""
    actor = find_actor(request)
    parsing.check_query(request, ("database", "before", "limit"))
    limit = parsing.number(request, "limit", default=_PAGE, least=1, most=_LARGEST_PAGE)
    found = runs.list_all(
        actor,
        database=request.GET.get("database"),
        before=request.GET.get("before"),
        limit=limit,
    )
    return answer(serialize.runs_answer(found, limit=limit))


def post_runs(request: HttpRequest) -> HttpResponse:
    """`POST runs`: 202, or 200 when it has ended within `Prefer: wait`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.CreateRun)
    if body.fake and body.fake_initial:
        raise InvalidRequest("fake and fake_initial exclude each other.")
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
        idempotency_key=parsing.idempotency_key(request),
    )
    run = applying.apply(wanted, actor)
    return waited_answer(request, run, actor, seconds=parsing.wanted_wait(request))


def waited_answer(
    request: HttpRequest, run: RunRecord, actor: Actor, *, seconds: float
) -> HttpResponse:
    """Answer with a run: 200 when it has ended within so many seconds, else 202. One
    that waits for other people is not waited for."""
    waits_for_people = run.state is RunState.AWAITING_APPROVAL
    seconds = 0.0 if waits_for_people else min(seconds, longest_wait(request))
    if seconds:
        run = runs.wait(run.id, actor, seconds=seconds)
    location = reverse("migration_route:api-run", kwargs={"run": run.id})
    code = 202 if run.is_active or not seconds else 200
    return answer(serialize.run_answer(run), status=code, location=location)


def get_run(request: HttpRequest, run: str) -> HttpResponse:
    """`GET runs/{id}`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    return answer(serialize.run_answer(runs.show(run, actor)))


def get_events(request: HttpRequest, run: str) -> HttpResponseBase:
    """`GET runs/{id}/events?after=N`, as JSON or as server-sent events."""
    actor = find_actor(request)
    parsing.check_query(request, ("after", "limit"))
    after = parsing.number(request, "after", default=0, least=0, most=_LARGEST_NUMBER)
    if streaming.wants_stream(request):
        after = streaming.after_last_event(request, after)
        return streaming.stream(request, run, actor, after=after)
    limit = parsing.number(request, "limit", default=_EVENTS, least=1, most=_EVENTS)
    found = runs.happenings(run, actor, after=after, limit=limit)
    return answer(serialize.events_answer(found))


def post_cancel(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/cancel`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.CancelRun)
    found = cancel.cancel(run, actor, reason=body.reason, force=body.force)
    return answer(serialize.run_answer(found))


def post_hold(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/hold`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.GiveReason)
    return answer(serialize.run_answer(hold.hold(run, actor, reason=body.reason)))


def post_resume(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/resume`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.ResumeRun)
    found = hold.resume(run, actor, reason=body.reason, force=body.force)
    return answer(serialize.run_answer(found))


def post_resolve(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/resolve`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.Resolve)
    found = resolve.resolve(run, actor, reason=body.reason, how=body.how)
    return answer(serialize.run_answer(found))


def post_end_blockers(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/end-blockers`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.GiveReason)
    found = end_blockers.end_blockers(run, actor, reason=body.reason)
    return answer(serialize.ended_blockers_answer(found.run, found.ended, found.not_ended))


def get_ledger(request: HttpRequest) -> HttpResponse:
    """`GET ledger?before=…&limit=…`, newest first."""
    actor = find_actor(request)
    parsing.check_query(request, ("before", "limit"))
    limit = parsing.number(request, "limit", default=_PAGE, least=1, most=_LARGEST_PAGE)
    before = parsing.number(
        request, "before", default=_LARGEST_NUMBER, least=1, most=_LARGEST_NUMBER
    )
    return answer(
        serialize.entries_answer(
            ledger.entries(actor, before=before, limit=limit), limit=limit
        )
    )


def get_verification(request: HttpRequest) -> HttpResponse:
    """`GET ledger/verify`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    return answer(serialize.verification_answer(ledger.verify(actor)))


def get_openapi(request: HttpRequest) -> HttpResponse:
    """`GET openapi.json`: public, and the same for everybody."""
    parsing.check_query(request, ())
    base = reverse("migration_route:api-status").removesuffix("/status")
    return HttpResponse(document(base), content_type="application/json")
