"""The calls of the JSON API about rehearsals."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from migration_route import wire
from migration_route.access.requests import find_actor
from migration_route.api import parsing
from migration_route.api.endpoints import answer
from migration_route.api.patience import longest_wait
from migration_route.operations import rehearse
from migration_route.reporting.rehearsals import rehearsal_answer, rehearsals_answer

_PAGE = 20
_LARGEST_PAGE = 200


def get_rehearsals(request: HttpRequest) -> HttpResponse:
    """`GET rehearsals?database=…&before=…&limit=…`, newest first."""
    actor = find_actor(request)
    parsing.check_query(request, ("database", "before", "limit"))
    limit = parsing.number(request, "limit", default=_PAGE, least=1, most=_LARGEST_PAGE)
    found = rehearse.list_all(
        actor,
        database=request.GET.get("database"),
        before=request.GET.get("before"),
        limit=limit,
    )
    return answer(rehearsals_answer(found, limit=limit))


def post_rehearsals(request: HttpRequest) -> HttpResponse:
    """`POST rehearsals`: 202, or 200 when it has ended within `Prefer: wait`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.CreateRehearsal)
    wanted = rehearse.RehearseRequest(
        database=body.database,
        targets=tuple(body.targets),
        phase=body.phase,
        fingerprint=body.fingerprint,
        kind=body.kind,
        and_back=body.and_back,
        in_place=body.in_place,
        reason=body.reason,
    )
    record = rehearse.rehearse(wanted, actor)
    seconds = min(parsing.wanted_wait(request), longest_wait(request))
    if seconds:
        record = rehearse.wait(record.id, actor, seconds=seconds)
    location = reverse("migration_route:api-rehearsal", kwargs={"rehearsal": record.id})
    code = 202 if record.is_active or not seconds else 200
    return answer(rehearsal_answer(record), status=code, location=location)


def get_rehearsal(request: HttpRequest, rehearsal: str) -> HttpResponse:
    """`GET rehearsals/{id}`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    return answer(rehearsal_answer(rehearse.show(rehearsal, actor)))
