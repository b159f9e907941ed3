"""`perform_migration`: one view that applies pending migrations and waits."""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpRequest, HttpResponse

from migration_route.access.actors import Actor, authorise
from migration_route.access.authentication import (
    authenticate,
    authenticate_permit_form,
    permit_in_form,
)
from migration_route.api.views import answer, endpoint, longest_wait
from migration_route.core.enums import SUCCESS_STATES, RunState, Scope
from migration_route.core.errors import Forbidden, Unauthenticated
from migration_route.planning.plan import PlanRequest
from migration_route.presentation.serializers import run_answer
from migration_route.services import apply as applying
from migration_route.services import permits, runs
from migration_route.services.audit import audited
from migration_route.services.plans import plain_plan


class StaffRequired(Forbidden):
    """This view requires a staff user with the permission to apply migrations."""


def _perform(request: HttpRequest) -> HttpResponse:
    """Apply everything that is pending on `default`; POST by staff with the right to apply.

    Returns 200 if applied or nothing to do, 202 if still running or awaiting approval, 403
    if not allowed, 409 if refused, 500 if failed. The body is the run, or a problem.
    """
    permit = permit_in_form(request)
    actor = authenticate_permit_form(request, permit) if permit else authenticate(request)
    database = actor.permit.database if actor.permit else "default"
    try:
        with audited(actor, "perform_migration", database=database):
            authorise(actor, Scope.APPLY, database=database)
    except Unauthenticated as error:
        # Everyone who is not staff with the right to apply gets the same 403.
        raise StaffRequired(error.message, hint=error.hint) from error
    run = applying.apply(_wanted(actor), actor)
    if run.state is not RunState.AWAITING_APPROVAL:
        run = runs.wait(run.id, actor, seconds=longest_wait())
    if run.is_active:
        return answer(run_answer(run), status=202)
    return answer(run_answer(run), status=200 if run.state in SUCCESS_STATES else 500)


def _wanted(actor: Actor) -> applying.ApplyRequest:
    """Return the request of the permit, or one for everything that is pending now."""
    if actor.permit is not None:
        return replace(permits.apply_request(actor.permit), wait_for_window=False)
    plan = plain_plan(PlanRequest())
    return applying.ApplyRequest(
        fingerprint=plan.fingerprint,
        reason="perform_migration",
        wait_for_window=False,  # the caller waits for the response
    )


perform_migration = endpoint({"POST": _perform})
