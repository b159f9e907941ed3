"""The worker that a supervisor forks: the pipes between both, and how it is stopped.

A worker is stopped before its next step if that comes soon, otherwise in the middle of its
work. The statement is cancelled in the database; a worker that computes in Python is
interrupted. Both are repeated until the worker has ended. What that leaves is read from the
database afterwards, not decided here.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from django.db import Error as DatabaseFailure

from migration_route.core.enums import ControlRequest
from migration_route.execution.messages import GateReply, Message, WorkOrder
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.execution.supervisor.run_lock import LockHolder
from migration_route.execution.worker.output import ByteLines, OutputBudget, RedactedBytes
from migration_route.ledger.control import requested_controls

_PR_SET_PDEATHSIG = 1
_CHUNK = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class RawOutput:
    """A line that a worker wrote past Python, with secrets masked; `stream` is "stdout" or
    "stderr"."""

    stream: str
    text: str


class Child:
    """A worker, as its supervisor sees it."""

    def __init__(self) -> None:
        """Fork the worker. No database connection may be open yet: a descriptor shared by
        two processes is closed, and its session ended, by the first one that exits."""
        pipe_out, pipe_in = os.pipe()
        control_out, control_in = os.pipe()
        life_out, life_in = os.pipe()
        stdout_out, stdout_in = os.pipe()
        stderr_out, stderr_in = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            for ours in (pipe_out, control_in, life_in, stdout_out, stderr_out):
                os.close(ours)
            os.dup2(stdout_in, 1)
            os.dup2(stderr_in, 2)
            _exit_with_parent(parent)
            from migration_route.execution.worker.worker import run_worker

            run_worker(pipe=pipe_in, control=control_out, life=life_out)
        for theirs in (pipe_in, control_out, life_out, stdout_in, stderr_in):
            os.close(theirs)
        # life_in stays open: the worker exits when this process has ended.
        self._question = 0  # the last one received
        self._control = control_in
        self._selector = selectors.DefaultSelector()
        self._lines: dict[int, tuple[str, ByteLines | RedactedBytes]] = {}
        budget = OutputBudget()
        for descriptor, name in (
            (pipe_out, "messages"),
            (stdout_out, "stdout"),
            (stderr_out, "stderr"),
        ):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)
            is_output = name != "messages"
            lines = RedactedBytes(budget) if is_output else ByteLines()
            self._lines[descriptor] = (name, lines)
        self.status: int | None = None  # as os.waitstatus_to_exitcode returns it

    def order(self, order: WorkOrder) -> None:
        """Start the worker."""
        self._send(order)

    def answer(self, *, go: bool) -> None:
        """Let the worker continue at the gate, or stop there."""
        self._send(GateReply(go=go, question=self._question))

    def request_new_forecast(self) -> None:
        """Make the worker ask at the gate again, with the tables that its step rewrites."""
        self._send(GateReply(go=False, renew_forecast=True, question=self._question))

    def _send(self, order: WorkOrder | GateReply) -> None:
        with suppress(BrokenPipeError):  # it has ended; `listen` finds out
            os.write(self._control, msgspec.json.encode(order) + b"\n")

    def listen(self, timeout: float) -> Iterator[Message | RawOutput]:
        """Yield what the worker sends within `timeout` seconds."""
        for key, _ in self._selector.select(timeout):
            descriptor = key.fd
            name, lines = self._lines[descriptor]
            try:
                chunk = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                continue
            whole = lines.feed(chunk) if chunk else lines.finish()
            if not chunk:
                self._selector.unregister(descriptor)
                os.close(descriptor)
                del self._lines[descriptor]
            for line in whole:
                if isinstance(line, str):
                    yield RawOutput(stream=name, text=line)
                    continue
                # A killed worker may leave half a message behind.
                with suppress(msgspec.DecodeError):
                    message = msgspec.json.decode(line, type=Message)
                    self._question = message.question or self._question
                    yield message

    @property
    def is_silent(self) -> bool:
        """Whether all pipes of the worker are closed."""
        return not self._lines

    def has_ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self) -> int:
        """Wait for the process of the worker to end; return its exit status."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def interrupt(self) -> None:
        """Raise `KeyboardInterrupt` in the worker."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill the worker and wait until it is gone."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


def _exit_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process with its parent (Linux). Elsewhere the pipe
    `life` does that, as soon as Python runs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


_LOOK = 0.5  # seconds between two reads of the control requests
_CANCEL_INTERVAL = 0.5  # seconds between two cancels of a statement
_INTERRUPT_INTERVAL = 1.0  # seconds before each interrupt of a worker
_BETWEEN_STEPS = 5.0  # seconds for `migrate` before, between and after its steps
_GRACE = 8.0  # seconds for a step after SIGTERM; Docker kills two seconds later
_TERMINATE_TIMEOUT = 10.0  # seconds for a terminated session to end


class Cancellation:
    """The control requests for a run, and the worker that must follow them."""

    def __init__(
        self, run: str, child: Child, backend: LockHolder, signals: ShutdownSignals
    ) -> None:
        self._run = run
        self._child = child
        self._worker_session = backend
        self._signals = signals
        self._requests: frozenset[str] = frozenset()
        self._looked = 0.0
        self._cancelled_at: float | None = None
        self._first_pressed_at = self._pressed_at = self._interrupted_at = 0.0

    @property
    def wants_hold(self) -> bool:
        """Whether a user asked for a pause, as of the last look."""
        return ControlRequest.PAUSE in self._requests

    @property
    def why(self) -> str:
        """Why the run is to stop: "cancel", the name of a signal, or ""."""
        if self._cancelled_at is not None:
            return ControlRequest.CANCEL
        return self._signals.name

    @property
    def was_pressed(self) -> bool:
        return self._first_pressed_at > 0

    def look(self) -> None:
        self._looked = time.monotonic()
        self._requests = requested_controls(self._run)
        if self._cancelled_at is None and self._requests & {
            ControlRequest.CANCEL,
            ControlRequest.FORCE,
        }:
            self._cancelled_at = self._looked

    def tick(self, *, in_step: bool) -> None:
        """Read the control requests from time to time and act on them. Never waits for
        long."""
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self.look()
        if ControlRequest.FORCE in self._requests:
            self._first_pressed_at = self._first_pressed_at or now
            self._child.kill()
        elif self._is_due(now, in_step=in_step):
            self._press(now)

    def _is_due(self, now: float, *, in_step: bool) -> bool:
        if self._cancelled_at is not None:
            return now > self._cancelled_at + (0 if in_step else _BETWEEN_STEPS)
        return bool(self._signals.name) and now > self._signals.since + _GRACE

    def _press(self, now: float) -> None:
        self._first_pressed_at = self._first_pressed_at or now
        if now - self._pressed_at > _CANCEL_INTERVAL:
            self._pressed_at = now
            with suppress(DatabaseFailure):  # repeated soon
                self._worker_session.cancel_statement()
        if now - max(self._first_pressed_at, self._interrupted_at) > _INTERRUPT_INTERVAL:
            self._interrupted_at = now
            self._child.interrupt()

    def end_what_is_left(self) -> None:
        """Terminate the session of a stopped worker, so that its statement does not
        continue."""
        if not self._worker_session.is_gone(within=_CANCEL_INTERVAL):
            self._worker_session.end(within=_TERMINATE_TIMEOUT)
