"""Tests that a task queue starts a run once, however often it delivers the task."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_windows import (
    SLOW,
    STARTED,
    assert_it_began_once,
    carrier_of,
    is_gone,
    later,
    let_its_time_come,
    starts,
)
from tests.harness.deadlines import until
from tests.harness.migrations import running
from tests.harness.pairs import on
from tests.harness.project import Options
from tests.harness.workers import Background, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(400)

APPS = [
    "migration_route",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "shop",
]
DATABASE_QUEUE = {
    "INSTALLED_APPS": [*APPS, "django_tasks_db"],
    "TASKS": {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
}
CELERY = """\
from celery import shared_task
from migration_route.execution.launchers.task_queue import QueueLauncher, execute_run


@shared_task
def carry_run(run):
    execute_run(run)


class CeleryLauncher(QueueLauncher):
    def enqueue(self, run, at):
        carry_run.delay(run)
"""
CELERY_APP = """\
from celery import Celery

app = Celery("market", broker="redis+socket://{socket}")
app.conf.task_acks_late = True
app.conf.task_ignore_result = True
app.autodiscover_tasks(related_name="carriers")
"""
RQ = """\
from migration_route.execution.launchers.task_queue import QueueLauncher, execute_run
from redis import Redis
from rq import Queue


class RqLauncher(QueueLauncher):
    def enqueue(self, run, at):
        queue = Queue("default", connection=Redis(unix_socket_path="{socket}"))
        queue.enqueue(execute_run, run, job_timeout=-1)
"""
RQ_WORKER = """\
import django

django.setup()
from redis import Redis
from rq import Worker

Worker(["default"], connection=Redis(unix_socket_path="{socket}")).work()
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a temporary Redis server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on this machine")
    with redis_server(tmp_path) as socket:
        yield socket


def with_database_queue(build: Any, pair: Any) -> Any:
    """Build a site whose queue is in its database."""
    site = build(
        pair,
        {"0002_start": running(STARTED)},
        options=Options(settings=DATABASE_QUEUE, migration_route={"LAUNCHER": "tasks"}),
        serve=False,
    )
    site.project.manage("migrate", "django_tasks_database")
    site.serve(timeout=SLOW)
    return site


def database_worker(site: Any) -> Background:
    """Start the worker of that queue."""
    return Background(site.project, "manage.py", "db_worker", "--interval", "0.3")


@on("postgres-gthread")
def test_a_queue_in_the_database_carries_a_run(build, pair):
    """Without a worker the run says so; after two killed workers it has started once."""
    site = with_database_queue(build, pair)
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    shown = ci.get(f"runs/{run}")
    assert (shown["state"], shown["waiting"]["reason"]) == ("queued", "no_worker")
    workers = [database_worker(site), database_worker(site)]
    assert_it_began_once(site, ci, run)
    for found in workers:
        found.stop()


@on("postgres-gthread")
def test_a_queue_in_the_database_keeps_a_run_until_its_time(build, pair):
    """No process waits; a worker that is killed meanwhile loses nothing."""
    site = with_database_queue(build, pair)
    ci = site.client("ci")
    run = ci.run(ci.plan(), at=later())
    assert (run["state"], run["waiting"]["reason"]) == ("waiting", "time")
    first = database_worker(site)
    until(lambda: "Starting worker" in first.said, seconds=90, what="it works")
    first.kill()
    assert site.rows("SELECT supervisor_pid FROM migration_route_run") == [(None,)]
    let_its_time_come(
        site,
        run["id"],
        changed=Options(settings=DATABASE_QUEUE, migration_route={"LAUNCHER": "tasks"}),
    )
    site.execute("UPDATE django_tasks_database_dbtaskresult SET run_after = now()")
    second = database_worker(site)
    assert_it_began_once(site, ci, run["id"])
    second.stop()


@on("postgres-gthread")
def test_celery_delivers_a_task_twice_and_starts_the_run_once(build, pair, redis):
    """With `acks_late`; the worker and the waiting process are killed meanwhile."""
    settings = Options(migration_route={"LAUNCHER": "shop.carriers.CeleryLauncher"})
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, serve=False)
    site.project.write("shop/carriers.py", CELERY)
    site.project.write("market/celery.py", CELERY_APP.format(socket=redis))
    site.project.write("market/__init__.py", "from market.celery import app\n")
    site.serve(timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan(), at=later())["id"]
    first = celery_worker(site)
    pid = carrier_of(site, run)
    again = f"from shop.carriers import carry_run\ncarry_run.delay({run!r})"
    site.project.python(again)
    first.kill()
    os.kill(pid, signal.SIGKILL)
    is_gone(site, pid)
    assert ci.get(f"runs/{run}")["state"] == "waiting"  # and is queued again
    second = celery_worker(site)
    until(lambda: carrier_of(site, run) != pid, seconds=90, what="another one waits")
    site.project.python(again)
    let_its_time_come(site, run, changed=settings)
    assert_it_began_once(site, ci, run)
    until(lambda: second.said.count("succeeded in") >= 2, seconds=90, what="both came")
    assert starts(site) == 1
    second.stop()


def celery_worker(site: Any) -> Background:
    """Start a Celery worker with one process for tasks."""
    words = ("-m", "celery", "-A", "market", "worker", "-c", "1", "-l", "info")
    return Background(site.project, *words)


@on("postgres-gthread")
def test_rq_starts_a_run_once(build, pair, redis):
    """The same task twice on the queue is one start."""
    settings = Options(migration_route={"LAUNCHER": "shop.carriers.RqLauncher"})
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, serve=False)
    site.project.write("shop/carriers.py", RQ.format(socket=redis))
    site.serve(timeout=SLOW)
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    assert ci.get(f"runs/{run}")["waiting"]["reason"] == "no_worker"
    twice = f"from shop.carriers import RqLauncher\nRqLauncher().enqueue({run!r}, None)"
    site.project.python(twice)
    found = Background(site.project, "-c", RQ_WORKER.format(socket=redis))
    assert_it_began_once(site, ci, run)
    until(lambda: found.said.count("Job OK") >= 2, seconds=90, what="both were delivered")
    assert starts(site) == 1
    found.stop()


@on("postgres-gthread")
def test_a_broker_that_is_away_is_a_failed_run(build, pair, tmp_path):
    """No worker would claim it: the database is free again, and the caller is informed."""
    settings = Options(migration_route={"LAUNCHER": "shop.carriers.RqLauncher"})
    site = build(pair, {"0002_start": running(STARTED)}, options=settings, serve=False)
    away = str(tmp_path / "nobody.sock")
    site.project.write("shop/carriers.py", RQ.format(socket=away))
    site.serve(timeout=SLOW)
    ci = site.client("ci")
    answer = ci.ask_for_run(ci.plan())
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] == "launch_failed"
    assert ci.get("runs")["runs"][0]["state"] == "failed"
