"""The worker: a process that carries out one plan and ends.

It runs the project's own `migrate` command, whichever app provides it, as if it had been
typed. Django's plan is compared with the order before the first statement and at every
step. Every session that a migration opens gets the settings of the worker and its lock.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TextIO, cast

import msgspec
from django.apps import apps
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState
from django.db.models.signals import pre_migrate

from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.enums import OWN_APP, Mode
from migration_route.core.errors import SessionOrphaned
from migration_route.core.progress import listening
from migration_route.core.redaction import message_of, sqlstate_of, traceback_of
from migration_route.execution.messages import (
    Ending,
    GateReply,
    Message,
    WorkerFailure,
    WorkOrder,
)
from migration_route.execution.migrate_guard import bypass_guard
from migration_route.execution.posix_signals import (
    ignore_interrupts,
    install_worker_handlers,
)
from migration_route.execution.worker.in_place import InPlaceComplete, step_runner
from migration_route.execution.worker.instrumentation import (
    MigrationObserver,
    instrument,
)
from migration_route.execution.worker.lock_retry import LockTimeout
from migration_route.execution.worker.operation_positions import (
    LoadedMigrations,
    track_loaded_migrations,
)
from migration_route.execution.worker.output import LineWriter
from migration_route.execution.worker.plan_guard import (
    PlanGuard,
    PlanMismatch,
    require_same_additions,
)
from migration_route.execution.worker.reporter import (
    Reporter,
    RunStopped,
    keep_placeholders,
)
from migration_route.execution.worker.resume import (
    rebuild_invalid_indexes,
    skip_completed_operations,
)
from migration_route.execution.worker.sandbox import redirect_to_copy
from migration_route.execution.worker.statement_probe import probe_statements
from migration_route.planning import sources
from migration_route.planning.states import executors_render_on_demand
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot, TargetLock

logger = logging.getLogger("migration_route.execution")

_LOCK_PATIENCE = 10.0
_LOCK_PAUSE = 0.05


@contextmanager
def worker_session(
    database: str, run: str, session_opens: Callable[[], None]
) -> Iterator[None]:
    """Prepare every session that this process opens to the database as a session of the
    worker.

    One of them holds a lock, which outlives this process for as long as that session does.
    Each new session calls `session_opens` once the lock is held, before it is used: the run
    may have been concluded while it had no session. Raises `SessionOrphaned` if the session
    of an earlier run does not end.
    """
    vendor = vendor_of(database)
    locks = WorkerLocks(database)
    lock_timeout = route_settings().database(database).lock_timeout.total_seconds()

    def prepare(connection: BaseDatabaseWrapper, **_: Any) -> None:
        # The lock monitor has a session of its own, outside any transaction.
        if connection.alias != database or connections[database] is not connection:
            return
        vendor.prepare_worker_session(connection, run, lock_timeout=lock_timeout)
        locks.acquire(connection)
        if vendor.lock_is_of_session:  # otherwise it was held all the time
            session_opens()

    connections[database].close()
    usual = connections[database].settings_dict
    connections[database].settings_dict = vendor.worker_settings(usual)
    connection_created.connect(prepare, dispatch_uid="migration_route.worker")
    try:
        with _direct_connection(database):
            yield
    finally:
        connection_created.disconnect(prepare, dispatch_uid="migration_route.worker")
        connections[database].close()  # must not return to a pool
        connections[database].settings_dict = usual
        locks.release()


@contextmanager
def _direct_connection(database: str) -> Iterator[None]:
    """Make the alias bypass a pooler, in every thread, if a direct alias is set."""
    way = route_settings().database(database).direct_alias
    if way is None:
        yield
        return
    usual = connections.settings[database]
    connections.settings[database] = {**connections.settings[way], "TEST": usual["TEST"]}
    del connections[database]  # created again with the new settings
    try:
        yield
    finally:
        connections[database].close()
        connections.settings[database] = usual
        del connections[database]


class WorkerLocks:
    """The worker lock of a database, held by one session of this process."""

    def __init__(self, database: str) -> None:
        self._vendor = vendor_of(database)
        self._held: list[tuple[BaseDatabaseWrapper, TargetLock, int | None]] = []

    def acquire(self, connection: BaseDatabaseWrapper) -> None:
        """Acquire the lock with this session, unless another open session of this process
        holds it: a migration may open more than one, in its own threads.

        Raises `SessionOrphaned` if the session of another process does not end.
        """
        if not self._vendor.lock_is_of_session and self._held:
            return
        # A lock of this connection's earlier session ended with that session.
        self._held = [one for one in self._held if one[0] is not connection]
        lock = self._vendor.lock(connection, LockSlot.WORKER)
        deadline = time.monotonic() + _LOCK_PATIENCE
        while not lock.try_acquire():
            if self._is_ours(lock.holder()):
                return
            if time.monotonic() > deadline:
                raise SessionOrphaned
            time.sleep(_LOCK_PAUSE)  # a session lock is polled, never waited for
        self._held.append((connection, lock, lock.holder()))

    def _is_ours(self, session: int | None) -> bool:
        """Return whether a session is one that this process has open. One that it has
        closed may still exist for a moment, with the lock."""
        return any(
            session == known and connection.connection is not None
            for connection, _, known in self._held
        )

    def release(self) -> None:
        """Release a lock that does not end with a session."""
        if not self._vendor.lock_is_of_session:
            for _, lock, _ in self._held:
                lock.release()


_MODE_OPTIONS = {Mode.FAKE: "fake", Mode.FAKE_INITIAL: "fake_initial"}
_USUAL = {"interactive": "--no-input", "no_color": "--no-color"}
"""The usual spelling of options that a command may lack or spell differently."""


def call_migrate(order: WorkOrder, target: str, streams: dict[str, LineWriter]) -> None:
    """Run `manage.py migrate` as if it had been typed."""
    provider = get_commands()["migrate"]
    command: BaseCommand = (
        provider
        if isinstance(provider, BaseCommand)
        else load_command_class(provider, "migrate")
    )
    command.stdout = OutputWrapper(cast("TextIO", streams["command_stdout"]))
    command.stderr = OutputWrapper(cast("TextIO", streams["command_stderr"]))
    parser = command.create_parser("manage.py", "migrate")
    positional_target = target.split(".", 1) if target else []
    arguments = [*positional_target, *_options(parser, order)]
    sys.argv = ["manage.py", "migrate", *arguments]
    options = vars(parser.parse_args(arguments))
    positional = options.pop("args", ())
    command.execute(*positional, **options)


def _options(parser: ArgumentParser, order: WorkOrder) -> list[str]:
    """Return the options of an order in the spelling of this parser: as in `call_command`,
    the destination of an option identifies it.

    Raises `CommandError` if the command lacks an option that the order needs.
    """
    found = {action.dest: action for action in parser._actions if action.option_strings}
    words = []
    for destination, usual in _USUAL.items():
        if action := found.get(destination):
            words.append(_spelling(action, usual))
    if action := found.get("database"):
        words += [_spelling(action, "--database"), order.database]
    elif order.database != DEFAULT_DB_ALIAS:
        raise CommandError(
            "The migrate command of this project has no option for the database, so it "
            f"cannot migrate {order.database!r}."
        )
    if mode := _MODE_OPTIONS.get(Mode(order.mode)):
        if mode not in found:
            raise CommandError(
                f"The migrate command of this project has no option for {mode!r}."
            )
        words.append(_spelling(found[mode], f"--{mode.replace('_', '-')}"))
    return words


def _spelling(action: Action, usual: str) -> str:
    return usual if usual in action.option_strings else action.option_strings[-1]


class Worker:
    """Carries out one order; `pipe` leads to the supervisor, `control` from it."""

    def __init__(self, *, pipe: int, control: int) -> None:
        self._pipe = pipe
        self._control = os.fdopen(control, "rb", buffering=0)

    def work(self) -> None:
        """Wait for the order, carry it out, and report how it ended."""
        _import_urls()
        line = self._control.readline()
        if not line:
            return  # the supervisor ended before it sent an order
        order = msgspec.json.decode(line, type=WorkOrder)
        reporter = Reporter(self._pipe, order.database, self._next_answer)
        streams = _capture(reporter)
        ending, failure = _execute(order, reporter, streams)
        ignore_interrupts()
        connections.close_all()
        for stream in streams.values():
            stream.finish()
        reporter.send(Message(kind="ended", at=clock.now(), ending=ending, failure=failure))

    def _next_answer(self) -> GateReply:
        line = self._control.readline()
        if not line:
            raise RunStopped
        return msgspec.json.decode(line, type=GateReply)


def _import_urls() -> None:
    """Import the URLs of the project, as the checks of `migrate` will, while the supervisor
    claims the run."""
    try:
        import_module(settings.ROOT_URLCONF)
    except Exception:
        # The checks import it again and report it, unless the command skips them.
        logger.debug("The URLs of the project cannot be imported yet.", exc_info=True)


def _execute(
    order: WorkOrder, reporter: Reporter, streams: dict[str, LineWriter]
) -> tuple[Ending, WorkerFailure | None]:
    try:
        with (
            redirect_to_copy(order.database, order.scratch, reporter.denied),
            bypass_guard(order.database),
            worker_session(order.database, order.run, reporter.session_opens),
            keep_placeholders(order.database, reporter),
            track_loaded_migrations() as loaded,
            _check_plans(order, loaded) as plan_guard,
            rebuild_invalid_indexes(order, reporter),
            step_runner(order, reporter) as (in_place, runner),
            probe_statements(order, runner, reporter) as (probes, probed_runner),
            instrument(
                [
                    *in_place,
                    _PermittedSteps(plan_guard, loaded),
                    reporter,
                    _ResumedSteps(plan_guard, loaded),
                    *probes,
                ],
                probed_runner,
                loaded.layout_of,
            ),
            executors_render_on_demand(print),
            listening(reporter.progress),
        ):
            for app, name, _ in order.steps:
                sources.forget_old_bytecode(app, name)
            for target in order.targets or ("",):
                call_migrate(order, target, streams)
    except RunStopped:
        return "stopped", None
    except InPlaceComplete:
        return "done", None
    except PlanMismatch as difference:
        return "plan_changed", WorkerFailure(type="PlanChanged", message=str(difference))
    except LockTimeout as spent:
        return "lock_timeout", _failure(spent)
    except BaseException as error:  # noqa: BLE001 - sys.exit and Ctrl-C as well
        return "failed", _failure(error)
    return "done", None


def _capture(reporter: Reporter) -> dict[str, LineWriter]:
    """Send output to the supervisor. The command gets separate streams, so that a
    half-written "Applying …" is not mixed with a printed line."""
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


class _PermittedSteps(MigrationObserver):
    """Lets only the steps start that the order permits."""

    def __init__(self, plan_guard: PlanGuard, loaded: LoadedMigrations) -> None:
        self._plan_guard = plan_guard
        self._loaded = loaded

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        del state
        self._plan_guard.begin(migration, backwards=backwards)
        if resumed := self._plan_guard.resumed:
            added = self._loaded.layout_of(migration).added(backwards=backwards)
            require_same_additions(migration, resumed.added, added)


class _ResumedSteps(MigrationObserver):
    """Skips what an earlier run completed of a step, once the step may start."""

    def __init__(self, plan_guard: PlanGuard, loaded: LoadedMigrations) -> None:
        self._plan_guard = plan_guard
        self._loaded = loaded

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        del state
        if resumed := self._plan_guard.resumed:
            places = self._loaded.layout_of(migration).places(backwards=backwards)
            skip_completed_operations(migration, places, resumed, backwards=backwards)


@contextmanager
def _check_plans(order: WorkOrder, loaded: LoadedMigrations) -> Iterator[PlanGuard]:
    """Compare each plan of Django with the order before anything is sent."""
    plan_guard = PlanGuard(order, loaded.in_order_of_execution)

    def check(plan: list[tuple[Migration, bool]], using: str, **_: Any) -> None:
        if using == order.database:
            plan_guard.check_plan(plan)

    sender = apps.get_app_config(OWN_APP)
    pre_migrate.connect(check, sender=sender, dispatch_uid="migration_route.worker")
    try:
        yield plan_guard
    finally:
        pre_migrate.disconnect(check, sender=sender, dispatch_uid="migration_route.worker")


def _failure(error: BaseException) -> WorkerFailure:
    with_detail = route_settings().record_error_detail
    return WorkerFailure(
        type=type(error).__name__,
        message=message_of(error),
        sqlstate=sqlstate_of(error),
        traceback=traceback_of(error, with_detail=with_detail),
    )


def run_worker(*, pipe: int, control: int, life: int) -> None:
    """Run the worker in this process; does not return.

    `life` is a pipe that the supervisor keeps open. When it closes, the supervisor is dead,
    and this process kills itself.
    """
    threading.Thread(target=_exit_when_closed, args=(life,), daemon=True).start()
    status = 1
    try:
        install_worker_handlers()
        Worker(pipe=pipe, control=control).work()
        status = 0
    finally:
        # Skip the exit handlers, which were inherited from the supervisor.
        os._exit(status)


def _exit_when_closed(life: int) -> None:
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGKILL)
