"""The pipes between a supervisor and the worker that it forks."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from migration_route.execution.messages import GateReply, Message, WorkOrder
from migration_route.execution.worker.output import ByteLines, OutputBudget, RedactedBytes

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
