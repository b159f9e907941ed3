"""How is a process of this project started, with the code that is on disk now?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from migration_route.core import tracing
from migration_route.core.errors import LaunchFailed

_PYTHON = re.compile(r"(python|pypy)[\d.]*$")
_TRACEBACK = "Traceback (most recent call last)"
SETTINGS_MODULE = "DJANGO_SETTINGS_MODULE"
_CHOICE = (SETTINGS_MODULE, "DJANGO_CONFIGURATION")  # the latter: django-configurations

_EXPECTED = "MIGRATION_ROUTE_SETTINGS"
"""The variable by which a process tells its child which settings it has itself."""


def environment() -> dict[str, str]:
    """Return this process's environment, finding the same settings and packages.

    Raises `LaunchFailed` when the settings are not a module.
    """
    if not os.environ.get(SETTINGS_MODULE):
        raise LaunchFailed(
            f"{SETTINGS_MODULE} is not set: a process of its own could not find the "
            "settings.",
            hint="Set it in the environment of the server.",
        )
    path = os.pathsep.join(_import_path())
    found = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    found[_EXPECTED] = _chosen_settings()
    if parent := tracing.current():
        found[tracing.VARIABLE] = parent
    return found


def require_same_settings() -> None:
    """Raise `LaunchFailed` where this process was started by another one of the route,
    and has other settings: it would work on other databases than it was asked to."""
    expected = os.environ.pop(_EXPECTED, None)
    found = _chosen_settings()
    if expected is not None and expected != found:
        raise LaunchFailed(
            f"The new process has the settings {found!r}; the process that started it has "
            f"{expected!r}.",
            hint='Let MIGRATION_ROUTE["COMMAND"] start a script that leaves '
            f"{' and '.join(_CHOICE)} as they are where they are set.",
        )


def _chosen_settings() -> str:
    return " ".join(filter(None, map(os.environ.get, _CHOICE)))


def _import_path() -> list[str]:
    """Return `sys.path` with the working directory in place of the empty entry."""
    found = []
    for entry in sys.path:
        with suppress(FileNotFoundError):  # the working directory has been removed
            found.append(entry or str(Path.cwd()))
    return found


def error_in(output: str) -> str:
    """Return the line of an output that names the error: the one below the last
    traceback, or the last line."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    starts = [n for n, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    below = lines[starts[-1] + 1 :] if starts else []
    named = (line for line in below if not line[0].isspace())
    return next(named, lines[-1].strip() if lines else "")


def reexec(run: str, carrier: str, command: list[str]) -> None:
    """Let this process carry on with the code and the settings that are on disk now: the
    program is started again in its place, with the words that it was started with. Where
    it is more than the process of this run, one of its own is started and waited for.

    `carrier` is the word by which the run is taken, `command` the beginning of a command
    line of the project. Raises `LaunchFailed`.
    """
    ours = [*sys.orig_argv[1:]]
    if run in ours:
        ours = [word for word in ours if not word.startswith("--carrier")]
        words = [interpreter(), *ours, f"--carrier={carrier}"]
        os.execv(words[0], words)  # noqa: S606
    words = [*command, "run", run, f"--carrier={carrier}"]
    subprocess.run(words, env=environment(), check=False)  # noqa: S603 - our own command


def is_run_process(pid: int, run: str) -> bool:
    """Tell whether a process of this host is one of that run's. Where the system does
    not tell how it was started, any process of that number is taken for it."""
    try:
        os.kill(pid, 0)
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's: it cannot be looked at
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    return state != "Z" and run.encode() in words


def interpreter() -> str:
    """Return the Python of this environment, also where it is embedded: uWSGI and
    mod_wsgi name themselves, or nothing, as `sys.executable`.

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
        f"There is no Python interpreter below {sys.prefix}, and {sys.executable!r} is "
        "none.",
        hint='Set MIGRATION_ROUTE["COMMAND"] to words whose first is the full path of one.',
    )
