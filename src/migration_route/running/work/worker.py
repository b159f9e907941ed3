"""How is a plan carried out? The worker: a process for one run, and then no more.

It drives the project's own `migrate`, whichever app provides it, with Django's plan
held against the order before the first statement and at every step.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from django.apps import apps
from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState
from django.db.models.signals import pre_migrate

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.masking import masked
from migration_route.planning import sources
from migration_route.running.guarding.guard import standing_aside
from migration_route.running.messages import Answer, Ending, Failure, Message, Order
from migration_route.running.signals import let_interrupts_through, no_more_interrupts
from migration_route.running.work.attempts import LockTimeout
from migration_route.running.work.copied import led_to_copy
from migration_route.running.work.expectation import Expectation, PlanDiffers
from migration_route.running.work.in_place import AllRehearsed, carefully
from migration_route.running.work.observation import observed
from migration_route.running.work.output import LineWriter
from migration_route.running.work.rebuilding import rebuilding
from migration_route.running.work.reporter import Reporter, Stopped
from migration_route.running.work.resumption import resume_in
from migration_route.running.work.session import worker_session
from migration_route.running.work.typed import type_migrate
from migration_route.running.work.watching import watching
from migration_route.vocabulary import OWN_APP

_SHORTEST_SECRET = 6


class Worker:
    """Carries out one order; `pipe` leads to the supervisor, `control` from it."""

    def __init__(self, *, pipe: int, control: int) -> None:
        self._pipe = pipe
        self._control = os.fdopen(control, "rb", buffering=0)

    def work(self) -> None:
        """Wait for the order, carry it out, and say how it ended."""
        line = self._control.readline()
        if not line:
            return  # the supervisor has ended before there was anything to do
        order = msgspec.json.decode(line, type=Order)
        reporter = Reporter(self._pipe, order.database, self._next_answer, _mask)
        streams = _capture(reporter)
        ending, failure = _carry_out(order, reporter, streams)
        no_more_interrupts()
        connections.close_all()
        for stream in streams.values():
            stream.finish()
        reporter.send(Message(kind="ended", at=clock.now(), ending=ending, failure=failure))

    def _next_answer(self) -> Answer:
        line = self._control.readline()
        if not line:
            raise Stopped
        return msgspec.json.decode(line, type=Answer)


def _carry_out(
    order: Order, reporter: Reporter, streams: dict[str, LineWriter]
) -> tuple[Ending, Failure | None]:
    try:
        with (
            led_to_copy(order.database, order.scratch, reporter.denied),
            standing_aside(order.database),
            worker_session(order.database, order.run, reporter.session_opens),
            _held_to(order, reporter) as held,
            rebuilding(order, reporter),
            carefully(order, held, reporter) as (observer, carried),
            watching(order, observer, carried, reporter) as (looking, carrying),
            observed(looking, carrying),
        ):
            for app, name, _ in order.steps:
                sources.forget_old_bytecode(app, name)
            for target in order.targets or ("",):
                type_migrate(order, target, streams)
    except Stopped:
        return "stopped", None
    except AllRehearsed:
        return "done", None
    except PlanDiffers as difference:
        return "plan_changed", Failure(type="PlanChanged", message=str(difference))
    except LockTimeout as spent:
        return "lock_timeout", _failure(spent)
    except BaseException as error:  # noqa: BLE001 - sys.exit and Ctrl-C as well
        return "failed", _failure(error)
    return "done", None


def _capture(reporter: Reporter) -> dict[str, LineWriter]:
    """Send what is printed to the supervisor; the command gets streams of its own,
    so that a half-written "Applying …" does not run into a printed line."""
    below = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}

    def writer(stream: str) -> LineWriter:
        return LineWriter(lambda line: reporter.output(stream, line), below[stream])

    streams = {
        "stdout": writer("stdout"),
        "stderr": writer("stderr"),
        "command_stdout": writer("stdout"),
        "command_stderr": writer("stderr"),
    }
    sys.stdout, sys.stderr = streams["stdout"], streams["stderr"]
    return streams


class _Held:
    """A reporter that lets nothing begin but what the order permits."""

    def __init__(self, expectation: Expectation, reporter: Reporter) -> None:
        self._expectation = expectation
        self._reporter = reporter

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        self._expectation.begin(migration, backwards=backwards)
        self._reporter.step_starts(migration, state, backwards=backwards)
        done = self._expectation.done_operations
        if done is not None:
            resume_in(migration, backwards=backwards, done=done)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reporter, name)


@contextmanager
def _held_to(order: Order, reporter: Reporter) -> Iterator[_Held]:
    expectation = Expectation(order)

    def check(plan: list[tuple[Migration, bool]], using: str, **_: Any) -> None:
        if using == order.database:
            expectation.check_plan(plan)

    sender = apps.get_app_config(OWN_APP)
    pre_migrate.connect(check, sender=sender, dispatch_uid="migration_route.worker")
    try:
        yield _Held(expectation, reporter)
    finally:
        pre_migrate.disconnect(check, sender=sender, dispatch_uid="migration_route.worker")


def _mask(text: str) -> str:
    secrets = {str(settings.SECRET_KEY), *route_settings().secrets}
    secrets |= {
        str(database.get("PASSWORD") or "") for database in settings.DATABASES.values()
    }
    speakable = text.encode(errors="backslashreplace").decode()  # no lone surrogates
    return masked(speakable, secrets=[s for s in secrets if len(s) >= _SHORTEST_SECRET])


def _failure(error: BaseException) -> Failure:
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    is_of_database = isinstance(error, DatabaseFailure)
    if is_of_database and code is None and cause.args and isinstance(cause.args[0], int):
        code = str(cause.args[0])  # MySQL and MariaDB number their errors
    return Failure(
        type=type(error).__name__,
        message=_mask(str(error) or type(error).__name__),
        sqlstate=code,
        traceback=_mask("".join(traceback.format_exception(error))[-20_000:]),
    )


def run_worker(*, pipe: int, control: int, life: int) -> None:
    """Be the worker from here on; does not return.

    `life` is a pipe that the supervisor holds open: when it closes, the supervisor is
    dead, and this process ends at once instead of going on unseen.
    """
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    status = 1
    try:
        let_interrupts_through()
        Worker(pipe=pipe, control=control).work()
        status = 0
    finally:
        # No exit handlers: those of the supervisor's image are not ours to run.
        os._exit(status)


def _end_with(life: int) -> None:
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGKILL)
