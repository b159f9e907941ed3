"""The smallest use of the route: one view that applies what is pending, and waits."""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpRequest, HttpResponse

from migration_route.access.actors import Actor, authorise
from migration_route.access.authentication import (
    authenticate,
    authenticate_permit_form,
    permit_in_form,
)
from migration_route.api.base import answer, endpoint, longest_wait
from migration_route.core.enums import RunState, Scope
from migration_route.core.errors import Forbidden, Unauthenticated
from migration_route.planning.plan import PlanRequest
from migration_route.presentation.serializers import run_answer
from migration_route.services import apply as applying
from migration_route.services import permit_redemption as permits
from migration_route.services import runs
from migration_route.services.audit import audited
from migration_route.services.plans import plain_plan


class NotForYou(Forbidden):
    """This is for members of staff with the right to apply."""


_GOOD_ENDS = frozenset({RunState.SUCCEEDED, RunState.NOOP})


def _perform(request: HttpRequest) -> HttpResponse:
    """POST by staff with the right to apply: everything that is pending on `default`.

    200 applied, or nothing to do; 202 still running, or waiting for approval; 403 not
    allowed; 409 refused; 500 failed. The body is the run, or a problem.
    """
    permit = permit_in_form(request)
    actor = authenticate_permit_form(request, permit) if permit else authenticate(request)
    database = actor.permit.database if actor.permit else "default"
    try:
        with audited(actor, "perform_migration", database=database):
            authorise(actor, Scope.APPLY, database=database)
    except Unauthenticated as error:
        # Whoever is not staff with the right is turned away with one and the same 403.
        raise NotForYou(error.message, hint=error.hint) from error
    run = applying.apply(_wanted(actor), actor)
    if run.state is not RunState.AWAITING_APPROVAL:
        run = runs.wait(run.id, actor, seconds=longest_wait(request))
    if run.is_active:
        return answer(run_answer(run), status=202)
    return answer(run_answer(run), status=200 if run.state in _GOOD_ENDS else 500)


def _wanted(actor: Actor) -> applying.ApplyRequest:
    """Return what a permit is for, or else everything that is pending as it is now."""
    if actor.permit is not None:
        return replace(permits.apply_request(actor.permit), wait_for_window=False)
    plan = plain_plan(PlanRequest())
    return applying.ApplyRequest(
        fingerprint=plan.fingerprint,
        reason="perform_migration",
        wait_for_window=False,  # who waits for the answer does not wait for a night
    )


perform_migration = endpoint({"POST": _perform})
