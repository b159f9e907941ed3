"""Tests that a launcher that cannot start anything is reported by the checks, and refuses
every run."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import django
import pytest
from django.test import Client

from migration_route.checks import check_settings
from migration_route.core.enums import RunState
from migration_route.core.errors import LaunchFailed, Misconfigured
from migration_route.execution.launchers import get_launcher
from migration_route.execution.launchers.task_queue import execute_run
from migration_route.ledger import runs
from migration_route.ledger.queries import find_run, list_runs
from migration_route.planning.plan import PlanRequest
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.plans import plain_plan
from tests.factories import History, a_new_run, an_actor

PACKAGE = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
TASK = "migration_route.execution.launchers.task"
IMMEDIATE = f"{PACKAGE}.backends.immediate.ImmediateBackend"
DUMMY = f"{PACKAGE}.backends.dummy.DummyBackend"


class _NoLaunch:
    """A class that is not a launcher."""


class _NeedsArgument:
    """A launcher that cannot be instantiated."""

    def __init__(self, broker: str) -> None:
        self.broker = broker


class _Raises:
    """A launcher of a project, which raises its own exception."""

    def launch(self, permit: Any, run: Any) -> None:
        """Fail as a driver does."""
        raise ZeroDivisionError("the broker said no; password=hunter2hunter2")


@pytest.fixture(autouse=True)
def _fresh_tasks(settings: Any) -> Any:
    """Recreate the task: it reads TASKS when its module is imported."""
    sys.modules.pop(TASK, None)
    yield
    sys.modules.pop(TASK, None)


def use(settings: Any, launcher: str, **words: Any) -> None:
    """Set the launcher."""
    ours = {**settings.MIGRATION_ROUTE, "LAUNCHER": launcher, **words}
    settings.MIGRATION_ROUTE = ours


BACKENDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dummy": ({"default": {"BACKEND": DUMMY}}, {}),
    "no such alias": ({"default": {"BACKEND": IMMEDIATE}}, {"TASK_BACKEND": "other"}),
    "no such queue": ({"default": {"BACKEND": IMMEDIATE}}, {"TASK_QUEUE": "slow"}),
    "no such class": ({"default": {"BACKEND": "no.such.Backend"}}, {}),
    "no backend": ({"default": {}}, {}),
    "broken options": ({"default": {"BACKEND": IMMEDIATE, "QUEUES": 7}}, {}),
}
LAUNCHERS = {
    "no module": "no.such.Launcher",
    "no class": f"{__name__}.Missing",
    "no launch": f"{__name__}._NoLaunch",
    "arguments": f"{__name__}._NeedsArgument",
    "broken module": "tests.execution.broken_launcher.Launcher",
}


def _assert_refused(text: str = "") -> None:
    """Assert that the check reports it, and no run is created."""
    (found,) = check_settings(None)
    assert found.id == "migration_route.E011"
    assert text in found.msg
    with pytest.raises(Misconfigured):
        get_launcher()
    plan = plain_plan(PlanRequest(targets=("testapp",)))
    body = {"targets": ["testapp"], "fingerprint": plan.fingerprint}
    headers = {"Authorization": "Bearer deployer-secret"}
    answer = Client(raise_request_exception=False).post(
        "/migrations/api/v1/runs", body, content_type="application/json", headers=headers
    )
    assert answer.json()["code"] == "misconfigured"
    assert answer.json()["detail"].startswith(found.msg[:60])
    assert list_runs(database=None, before=None, limit=10) == []


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_of_tasks_that_carries_nothing_is_refused(
    history: History, settings: Any, name: str
) -> None:
    """Such a run would own its database forever."""
    history.table("0001_a", "made_a")
    tasks, words = BACKENDS[name]
    settings.TASKS = tasks
    use(settings, "tasks", **words)
    _assert_refused()


def test_the_launcher_tasks_without_a_tasks_package_is_refused(
    history: History, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Django 5.2, which has none."""
    history.table("0001_a", "made_a")
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    use(settings, "tasks")
    _assert_refused("django-tasks")


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_class_that_is_no_launcher_is_refused(
    history: History, settings: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It cannot be imported or instantiated, or it starts nothing."""
    history.table("0001_a", "made_a")

    class Broken(ModuleType):
        def __getattr__(self, attribute: str) -> Any:
            raise RuntimeError(f"{attribute}: the settings of the broker are wrong")

    broken = Broken("tests.execution.broken_launcher")
    monkeypatch.setitem(sys.modules, "tests.execution.broken_launcher", broken)
    use(settings, LAUNCHERS[name])
    _assert_refused(LAUNCHERS[name])


def test_the_backend_of_django_that_runs_a_task_at_once_is_a_warning(
    settings: Any,
) -> None:
    """It works, but each request waits."""
    settings.TASKS = {"default": {"BACKEND": IMMEDIATE}}
    use(settings, "tasks")
    (found,) = check_settings(None)
    assert found.id == "migration_route.W010"
    assert "waits" in found.msg


def test_a_backend_under_another_name_alone_is_enough(settings: Any) -> None:
    """Neither a backend nor a queue has to be called `default`."""
    settings.TASKS = {"migrations": {"BACKEND": IMMEDIATE, "QUEUES": ["slow"]}}
    use(settings, "tasks", TASK_BACKEND="migrations", TASK_QUEUE="slow")
    assert [found.id for found in check_settings(None)] == ["migration_route.W010"]


def test_a_launcher_that_raises_anything_leaves_the_database_free(
    history: History, settings: Any
) -> None:
    """The run has failed, with the error of the launcher, without its secrets."""
    history.table("0001_a", "made_a")
    use(settings, f"{__name__}._Raises")
    assert check_settings(None) == []
    fingerprint = plain_plan(PlanRequest(targets=("testapp",))).fingerprint
    request = ApplyRequest(targets=("testapp",), fingerprint=fingerprint)
    for _ in range(2):
        with pytest.raises(LaunchFailed, match="ZeroDivisionError"):
            apply(request, an_actor())
    run = list_runs(database=None, before=None, limit=10)[0]
    assert (run.state, run.outcome) == (RunState.FAILED, "launch_failed")
    assert run.error is not None
    assert "ZeroDivisionError: the broker said no" in run.error.message
    assert "hunter2" not in run.error.message


def _without_command(settings: Any) -> None:
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "COMMAND": ["/no/program"]}


def test_a_task_that_cannot_start_a_process_ends_the_run(
    history: History, settings: Any
) -> None:
    """No other task would be delivered for it."""
    use(settings, "tests.launchers.Queue")
    _without_command(settings)
    run, _ = runs.create_run(a_new_run())
    with pytest.raises(LaunchFailed):
        execute_run(run.id)
    found = find_run(run.id)
    assert (found.state, found.outcome) == (RunState.FAILED, "launch_failed")


def test_a_task_that_fails_at_once_fails_the_run(history: History, settings: Any) -> None:
    """The backend stores the error in its result, and raises nothing."""
    history.table("0001_a", "made_a")
    settings.TASKS = {"default": {"BACKEND": IMMEDIATE}}
    use(settings, "tasks")
    _without_command(settings)
    fingerprint = plain_plan(PlanRequest(targets=("testapp",))).fingerprint
    with pytest.raises(LaunchFailed, match="/no/program"):
        apply(ApplyRequest(targets=("testapp",), fingerprint=fingerprint), an_actor())
    (run,) = list_runs(database=None, before=None, limit=10)
    assert (run.state, run.outcome) == (RunState.FAILED, "launch_failed")
    assert run.error is not None
    assert "/no/program" in run.error.message
