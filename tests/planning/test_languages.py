"""Tests that a plan does not depend on the reader's language."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import connections
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ProjectState
from django.test import Client
from django.utils import translation

from migration_route.access.actors import shell_actor
from migration_route.core.enums import RunState
from migration_route.ledger.queries import find_run
from migration_route.planning import graph as graphs
from migration_route.planning.findings import environment as of_project
from migration_route.planning.plan import PlanRequest
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.plans import detailed_plan, plain_plan
from tests.factories import History, create_model

HEAD = (
    "from django.utils.translation import gettext, gettext_lazy\n"
    "AT_IMPORT = gettext('Yes')\n"
    "CHOICES = [('y', gettext_lazy('Yes')), ('n', gettext_lazy('No'))]\n"
)
FIELDS = (
    "migrations.AddField('shelf', 'lazy', models.CharField(gettext_lazy('Date'), "
    "max_length=9, choices=CHOICES, default=gettext_lazy('Yes')))",
    "migrations.AddField('shelf', 'eager', models.CharField(max_length=9, "
    "default=AT_IMPORT))",
    "migrations.AlterField('shelf', 'eager', models.CharField(max_length=20, "
    "default=gettext_lazy('No'), help_text=gettext_lazy('Yes')))",
)
API = "/migrations/api/v1/"


@pytest.fixture
def translated(history: History, settings: Any) -> History:
    """A project with LocaleMiddleware, and a migration with translated texts."""
    middleware = "django.middleware.locale.LocaleMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    history.write("0001_initial", create_model("Shelf"))
    history.write("0002_texts", *FIELDS, head=HEAD)
    return history


def _read(path: str, language: str) -> dict[str, Any]:
    headers = {"Authorization": "Bearer planner-secret", "Accept-Language": language}
    answer = Client().get(API + path, headers=headers)
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("language", ["de", "fr", "ar"])
def test_a_plan_reads_alike_in_every_language(translated: History, language: str) -> None:
    """Fingerprint, statements and findings, also where the first reader of a new file is
    the one with the other language."""
    first = _read("plan", language)
    second = _read("plan", "en")
    assert first == second
    statements = str(first["steps"])
    assert "Yes" in statements
    with translation.override(language):
        assert detailed_plan(PlanRequest()).fingerprint == first["fingerprint"]
        assert plain_plan(PlanRequest()).fingerprint == first["fingerprint"]
        assert translation.get_language() == language


def test_what_is_applied_is_what_was_read_in_another_language(
    translated: History, project: Any, settings: Any
) -> None:
    """The worker fills the columns with the texts of the plan."""
    settings.LANGUAGE_CODE = "de"
    project()
    connection = connections["default"]
    with translation.override("de"):
        plan = plain_plan(PlanRequest(targets=("testapp.0001_initial",)))
        made = apply(
            ApplyRequest(fingerprint=plan.fingerprint, targets=plan.targets),
            shell_actor(),
        )
        assert find_run(made.id).state is RunState.SUCCEEDED
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO testapp_shelf (id) VALUES (1)")
        plan = detailed_plan(PlanRequest())
        statements = " ".join(
            statement
            for step in plan.steps
            for operation in step.operations
            for statement in operation.sql or ()
        )
        assert "Yes" in statements
        assert "Ja" not in statements
        run = apply(ApplyRequest(fingerprint=plan.fingerprint), shell_actor())
    assert find_run(run.id).state is RunState.SUCCEEDED
    with connection.cursor() as cursor:
        cursor.execute("SELECT lazy, eager FROM testapp_shelf")
        assert cursor.fetchone() == ("Yes", "Yes")


def test_translated_models_are_no_changes(database: None, settings: Any) -> None:
    """Neither under the language of the project, nor under that of a request."""
    settings.LANGUAGE_CODE = "de"
    for language in ("de", "fr"):
        with translation.override(language):
            loader = graphs.read_graph("default").loader
            state = ProjectState.from_apps(apps)
            changes = MigrationAutodetector(loader.project_state(), state).changes
            assert "auth" in changes(graph=loader.graph)  # Django's own result here
            of_project._apps_with_changes.cache_clear()
            assert "auth" not in of_project._apps_with_changes(("a layout", language))
