"""How is a process of this project started, with the code that is on disk now?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from migration_route import tracecontext
from migration_route.errors import LaunchFailed


def command_line() -> list[str]:
    """Return the beginning of a command line: `python -m django migration_route`."""
    return [_interpreter(), "-m", "django", "migration_route"]


def environment() -> dict[str, str]:
    """Return this process's environment, finding the same settings and packages.

    Raises `LaunchFailed` when the settings are not a module.
    """
    module = os.environ.get("DJANGO_SETTINGS_MODULE")
    if not module:
        raise LaunchFailed(
            "DJANGO_SETTINGS_MODULE is not set: a process of its own could not find "
            "the settings.",
            hint="Set it in the environment of the server.",
        )
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    found = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if parent := tracecontext.current():
        found[tracecontext.VARIABLE] = parent
    return found


def carry_on_anew(run: str, carrier: str) -> None:
    """Let this process carry on with the code and the settings that are on disk now: the
    program is started again in its place, with the words that it was started with. Where
    it is more than the process of this run, one of its own is started and waited for.

    `carrier` is the word by which the run is taken. Raises `LaunchFailed`.
    """
    ours = [*sys.orig_argv[1:]]
    if run in ours:
        ours = [word for word in ours if not word.startswith("--carrier")]
        os.execv(_interpreter(), [_interpreter(), *ours, f"--carrier={carrier}"])  # noqa: S606
    words = [*command_line(), "run", run, f"--carrier={carrier}"]
    subprocess.run(words, env=environment(), check=False)  # noqa: S603 - our own command


def is_at_work(pid: int, run: str) -> bool:
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


def _interpreter() -> str:
    """Return the Python of this environment, also where it is embedded (uWSGI)."""
    if sys.executable and Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.prefix) / "bin" / "python")
