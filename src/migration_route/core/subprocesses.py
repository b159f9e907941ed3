"""Starts processes of this project with the code that is on disk now.

They belong to the trace of the request that starts them (W3C Trace Context, Level 1): the
process of a run receives it in the environment variable TRACEPARENT, as CI pipelines pass
it to their commands. So the span of a run is a child of the request that started it.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from migration_route.core.errors import LaunchFailed

_PR_SET_NAME = 15
_PYTHON = re.compile(r"(python|pypy)[\d.]*$")
_TRACEBACK = "Traceback (most recent call last)"
SETTINGS_MODULE = "DJANGO_SETTINGS_MODULE"
_CHOICE = (SETTINGS_MODULE, "DJANGO_CONFIGURATION")  # the latter: django-configurations

_EXPECTED = "MIGRATION_ROUTE_SETTINGS"
"""The environment variable that passes the settings of a process to its child, which
compares them with its own."""


TRACEPARENT = "TRACEPARENT"
_TRACEPARENT_FORM = re.compile(
    r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_requested: ContextVar[str] = ContextVar("migration_route_traceparent", default="")


def environment() -> dict[str, str]:
    """Return the environment for a child process with the same settings and import path.

    Raises `LaunchFailed` when the settings are not a module.
    """
    if not os.environ.get(SETTINGS_MODULE):
        raise LaunchFailed(
            f"{SETTINGS_MODULE} is not set, so a new process could not find the settings.",
            hint="Set it in the environment of the server.",
        )
    path = os.pathsep.join(_import_path())
    found = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    found[_EXPECTED] = _chosen_settings()
    if parent := current_traceparent():
        found[TRACEPARENT] = parent
    return found


def require_same_settings() -> None:
    """Raise `LaunchFailed` if this process was started by another process of this package
    and has different settings: it would work on other databases than requested."""
    expected = os.environ.pop(_EXPECTED, None)
    found = _chosen_settings()
    if expected is not None and expected != found:
        raise LaunchFailed(
            f"The new process has the settings {found!r}, but its parent process has "
            f"{expected!r}.",
            hint='Set MIGRATION_ROUTE["COMMAND"] to a script that does not overwrite '
            f"{' and '.join(_CHOICE)} where they are set.",
        )


def _chosen_settings() -> str:
    return " ".join(filter(None, map(os.environ.get, _CHOICE)))


def _import_path() -> list[str]:
    """Return `sys.path` with the working directory instead of the empty entry."""
    found = []
    for entry in sys.path:
        with suppress(FileNotFoundError):  # the working directory has been removed
            found.append(entry or str(Path.cwd()))
    return found


@contextmanager
def traceparent_scope(traceparent: str) -> Iterator[None]:
    """Make the processes started in this block part of the trace of this header; an invalid
    header is ignored."""
    token = _requested.set(traceparent if _TRACEPARENT_FORM.fullmatch(traceparent) else "")
    try:
        yield
    finally:
        _requested.reset(token)


def current_traceparent() -> str:
    """Return the current trace parent: the open OpenTelemetry span, or else the one of the
    request; "" where there is none."""
    try:
        from opentelemetry import trace
    except ImportError:
        return _requested.get()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return _requested.get()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def error_in(output: str) -> str:
    """Return the line of an output that names the error: the one after the last traceback,
    or else the last line."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    starts = [n for n, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    below = lines[starts[-1] + 1 :] if starts else []
    named = (line for line in below if not line[0].isspace())
    return next(named, lines[-1].strip() if lines else "")


def reexec(run: str, claim: str, command: list[str]) -> None:
    """Restart this process with the code and the settings that are on disk now.

    The program is executed again with its original arguments. Where the process does more
    than this run, a child process is started instead, and this function waits for it.
    `claim` is the claim of the run; `command` is the start of a command line of the
    project. Raises `LaunchFailed`.
    """
    ours = [*sys.orig_argv[1:]]
    if run in ours:
        ours = [word for word in ours if not word.startswith("--claim")]
        words = [interpreter(), *ours, f"--claim={claim}"]
        os.execv(words[0], words)  # noqa: S606
    words = [*command, "run", run, f"--claim={claim}"]
    subprocess.run(words, env=environment(), check=False)  # noqa: S603 - our own command


def name_run_process(run: str) -> None:
    """Give this process a name by which `is_run_process` recognizes it, where its command
    line does not contain the run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, _process_name(run).encode())


def is_run_process(pid: int, run: str) -> bool:
    """Return whether a process of this host belongs to that run. Where the system does not
    show command lines, any process with that number counts."""
    try:
        os.kill(pid, 0)
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        start, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it belongs to another user and cannot be inspected
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    name, state = start.partition("(")[2], rest.split()[0]
    return state != "Z" and (run.encode() in words or name == _process_name(run))


def _process_name(run: str) -> str:
    """Return the name of the process of a run: Linux keeps 15 bytes."""
    return f"run {run[-11:]}"


def interpreter() -> str:
    """Return the Python of this environment, also where it is embedded: uWSGI and mod_wsgi
    set `sys.executable` to themselves, or leave it empty.

    Raises `LaunchFailed` where there is none.
    """
    if _PYTHON.match(Path(sys.executable or "").name):
        return sys.executable
    major, minor, *_ = sys.version_info
    for name in (f"python{major}.{minor}", f"python{major}", "python"):
        path = Path(sys.prefix) / "bin" / name
        if path.exists():
            return str(path)
    raise LaunchFailed(
        f"No Python interpreter was found below {sys.prefix}, and {sys.executable!r} is "
        "not one.",
        hint='Set MIGRATION_ROUTE["COMMAND"] to a list that starts with the full path of '
        "an interpreter.",
    )
