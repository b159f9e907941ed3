"""The calls of the JSON API by which people agree to a run, or reject it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from migration_route import wire
from migration_route.access.requests import find_actor
from migration_route.api import parsing
from migration_route.api.endpoints import answer
from migration_route.operations import approve as approving
from migration_route.reporting.serialize import run_answer


def post_approve(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/approve`: with the last approval that it needs, the run begins."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.GiveReason)
    return answer(run_answer(approving.approve(run, actor, reason=body.reason)))


def post_reject(request: HttpRequest, run: str) -> HttpResponse:
    """`POST runs/{id}/reject`."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.GiveReason)
    return answer(run_answer(approving.reject(run, actor, reason=body.reason)))
