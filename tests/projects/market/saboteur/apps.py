"""Fault injection: an app of the project that kills or interrupts the processes of a run.

In both processes of a run it counts the instants: each message of the worker, each commit,
each record, and what the supervisor does with the run. It writes them to a file, or it
kills at one of them, as `sabotage.json` says. What it kills ends before the process takes
another step. Where its host is to be interrupted, the process waits until the sweep has
done that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from django.apps import AppConfig

from saboteur.sessions import activity_of, connect, kill_session

FOLDER = Path(__file__).resolve().parent.parent
ORDER = FOLDER / "sabotage.json"
STRUCK = FOLDER / "struck.json"
INSTANTS = FOLDER / "instants.jsonl"
INTERRUPTED = FOLDER / "interrupted"


DURING = "during "
SLOWED = ("CONCURRENTLY", '"shelf"', "`shelf`")
"""Prefix of the labels of statements that are also struck while they wait for a lock."""


class Saboteur(AppConfig):
    """Instruments the processes of a run, and no other process."""

    name = "saboteur"

    def ready(self) -> None:
        """Start counting in the process of a run and in the one that it will fork."""
        if sys.argv[1:3] != ["migration_route", "run"] or not ORDER.exists():
            return
        counter = Counter(json.loads(ORDER.read_text()))
        watch_worker(counter)
        watch_supervisor(counter)


class Counter:
    """Counts the instants of a process, and strikes at the configured one."""

    def __init__(self, order: dict) -> None:
        self.order = order
        self.supervisor = os.getpid()
        self.counts = {"supervisor": 0, "worker": 0}
        self.busy = False

    def instant(self, label: str) -> None:
        """Count one instant of this process; `label` describes it."""
        if self.busy:
            return
        process = "supervisor" if os.getpid() == self.supervisor else "worker"
        self.counts[process] += 1
        if self.order["target"] == "nothing":
            self.write_down(process, label)
        elif (process, self.counts[process]) == (
            self.order["process"],
            self.order["number"],
        ):
            self.busy = True
            self.strike(process, label)
            self.busy = False

    def write_down(self, process: str, label: str) -> None:
        """Record the instant for the sweep."""
        if label.startswith(DURING) and not has_session():
            return
        words = {
            "process": process,
            "number": self.counts[process],
            "label": label,
            "has_session": process == "worker" and has_session(),
        }
        with INSTANTS.open("a") as file:
            file.write(json.dumps(words) + "\n")

    def strike(self, process: str, label: str) -> None:
        """Kill the target, which may be this process."""
        if STRUCK.exists():
            return  # strike only once: this is the recovery
        if label.startswith(DURING):
            let_strike_during(self.order["target"], label, self.supervisor)
            return
        say_struck(label)
        match self.order["target"]:
            case "host":
                await_interruption()
            case "backend":
                end_session()
            case "supervisor" if process == "worker":
                os.kill(self.supervisor, signal.SIGKILL)
                time.sleep(60)  # killed with the supervisor
            case _:
                os.kill(os.getpid(), signal.SIGKILL)


def say_struck(label: str) -> None:
    """Record the time and the instant of the strike for the sweep."""
    draft = STRUCK.with_suffix(".draft")
    draft.write_text(json.dumps({"at": time.time(), "label": label}))
    draft.rename(STRUCK)


def await_interruption() -> None:
    """Wait until the sweep has cut this host off, or has frozen and resumed it."""
    deadline = time.monotonic() + 60
    while not INTERRUPTED.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("this host is not interrupted")
        time.sleep(0.005)


def let_strike_during(target: str, label: str, supervisor: int) -> None:
    """Start the process that blocks the next statement and strikes meanwhile; return when
    it is ready."""
    order = {
        "target": target,
        "label": label,
        "supervisor": supervisor,
        "worker": os.getpid(),
        "session": session_id(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "saboteur.during", json.dumps(order)],
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()


def has_session() -> bool:
    """Return whether the server has a session for this process."""
    from django.db import connections

    wrapper = connections["default"]
    return wrapper.vendor != "sqlite" and wrapper.connection is not None


def session_id() -> int:
    """Return the server's number for the session of this process."""
    from django.db import connections

    wrapper = connections["default"]
    if wrapper.vendor == "postgresql":
        return wrapper.connection.info.backend_pid
    return wrapper.connection.thread_id()


def end_session() -> None:
    """Make the server end the session of this process, and wait until it has."""
    with closing(connect()) as other:
        kill_session(other, session_id())
        deadline = time.monotonic() + 30
        while activity_of(other, session_id()) is not None:
            if time.monotonic() > deadline:
                raise TimeoutError("the session does not end")
            time.sleep(0.01)


def watch_worker(counter: Counter) -> None:
    """Count the messages, commits and records of the worker."""
    from django.core.management.commands import migrate
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.migrations.executor import MigrationExecutor

    from migration_route.execution.worker.reporter import Reporter

    def says(self, message, *_, **__):
        counter.instant(f"says {message.kind} {message.name or short(message)}".strip())

    def has_said(self, message, *_, **__):
        is_change = message.text.startswith(("ALTER", "CREATE"))
        slowed = is_change and any(word in message.text for word in SLOWED)
        if message.kind == "statement_started" and slowed:
            counter.instant(f"{DURING}{short(message)}")

    around(Reporter, "send", before=says, after=has_said)
    around_all(counter, MigrationExecutor, "record_migration", "the record of a step")
    around_all(counter, migrate, "emit_pre_migrate_signal", "pre_migrate")
    around_all(counter, migrate, "emit_post_migrate_signal", "post_migrate")

    commit = BaseDatabaseWrapper._commit

    def counted_commit(self):
        is_work = os.getpid() != counter.supervisor and self.alias == "default"
        if is_work:
            counter.instant("before a commit")
        commit(self)
        if is_work:
            counter.instant("after a commit")

    BaseDatabaseWrapper._commit = counted_commit


def short(message) -> str:
    """Return the start of a message's text, on one line."""
    return " ".join(message.text.split())[:60]


def watch_supervisor(counter: Counter) -> None:
    """Count what the supervisor does with its run. Its ledger writes meanwhile depend on
    the clock, and are not counted."""
    from migration_route.execution.supervisor.child import Child
    from migration_route.execution.supervisor.recorder import EventRecorder
    from migration_route.execution.supervisor.run_lock import RunLock
    from migration_route.ledger import runs
    from migration_route.ledger.run_log import RunLog

    around_all(counter, RunLock, "make", "the claim")
    around_all(counter, RunLock, "release", "the release of the lock")
    around_all(counter, runs, "move", "a change of state")
    around_all(counter, Child, "order", "the order")
    around_all(counter, Child, "answer", "the answer at a gate")
    around_all(counter, EventRecorder, "begin_step", "the intent of a step")
    around_all(counter, RunLog, "close", "the end of the journal")


def around_all(counter: Counter, owner, name: str, what: str) -> None:
    """Count the instants before and after a call."""
    around(
        owner,
        name,
        before=lambda *_, **__: counter.instant(f"before {what}"),
        after=lambda *_, **__: counter.instant(f"after {what}"),
    )


def around(owner, name: str, *, before, after=lambda *_, **__: None) -> None:
    """Call `before` and `after` around a function of a class or a module."""
    call = getattr(owner, name)

    def called(*arguments, **words):
        before(*arguments, **words)
        result = call(*arguments, **words)
        after(*arguments, **words)
        return result

    setattr(owner, name, called)
