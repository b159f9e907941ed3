"""Fixtures of the tests of the pages: signed-in users, and runs to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from migration_route.access.actors import permission_for, shell_actor
from migration_route.core.enums import RunState, Scope
from migration_route.ledger import queries, runs
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import PlanRequest
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.plans import plain_plan
from tests.factories import History, a_new_run

SignIn = Callable[..., Client]


@pytest.fixture
def sign_in(database: None) -> SignIn:
    """Return a client of a staff member with these rights."""

    def sign_in(*scopes: Scope, csrf: bool = False, **changes: Any) -> Client:
        user = User.objects.create_user("ada", **{"is_staff": True, **changes})
        names = [permission_for(scope).partition(".")[2] for scope in scopes]
        user.user_permissions.set(
            Permission.objects.filter(
                content_type__app_label="migration_route", codename__in=names
            )
        )
        client = Client(enforce_csrf_checks=csrf)
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def everyone_can(sign_in: SignIn) -> Client:
    """Return a client of a user with every right."""
    return sign_in(*Scope)


@pytest.fixture
def inline(history: History, settings: Any, project: Callable[[], None]) -> History:
    """Make a request wait for the end of the run that it starts."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()
    return history


@pytest.fixture
def a_run(database: None) -> Callable[..., RunRecord]:
    """Record a run in a state, without executing anything."""

    def a_run(state: RunState = RunState.QUEUED, **changes: Any) -> RunRecord:
        run, _ = runs.create_run(a_new_run(**changes))
        if state is RunState.QUEUED:
            return run
        return runs.move(run.id, to=state, expected={RunState.QUEUED})

    return a_run


@pytest.fixture
def apply_everything(inline: History) -> Callable[[], None]:
    """Apply everything that is pending, as the command does."""

    def apply_everything() -> None:
        plan = plain_plan(PlanRequest())
        run = apply(ApplyRequest(fingerprint=plan.fingerprint), shell_actor())
        assert queries.find_run(run.id).state is RunState.SUCCEEDED

    return apply_everything
