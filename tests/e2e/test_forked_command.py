"""Tests that the process of a run is a fork of the command that applies it, and behaves as
any other process of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from migration_route.core.subprocesses import is_run_process
from tests.harness.deadlines import until
from tests.harness.migrations import column, running
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options

LISTED = '\nopen("imports.txt", "a").write("imported\\n")\n'


def imports_of(site):
    """Return how often the project has been imported since the last call."""
    path = site.project.folder / "imports.txt"
    found = path.read_text().count("imported") if path.exists() else 0
    path.unlink(missing_ok=True)
    return found


def listed(site):
    """Let the settings of the project list each import of them."""
    settings = site.project.folder / "market" / "settings.py"
    settings.write_text(settings.read_text() + LISTED)


def processes_in(folder):
    """Return the processes whose working directory is this folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if link.readlink() == folder.resolve():
                found.append(link.parent.name)
    return found


def state_of(site):
    text = site.project.manage("migration_route", "runs").stdout
    return text.splitlines()[0] if text else ""


@on_each_once
def test_the_project_is_imported_once(build, pair):
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    listed(site)
    site.project.manage("migration_route", "apply", "--yes")
    assert imports_of(site) == 1
    assert site.has_column("sku")


@on("sqlite-sync")
def test_a_setting_that_names_a_command_is_followed(build, pair):
    """A fork would not be what the setting asks for."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    command = [sys.executable, "manage.py"]
    site.project.set_options(Options(migration_route={"COMMAND": command}))
    listed(site)
    site.project.manage("migration_route", "apply", "--yes")
    assert imports_of(site) == 2
    assert site.has_column("sku")


@on("postgres-sync")
def test_a_command_without_a_run_leaves_no_process(build, pair):
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    answer = site.project.manage(
        "migration_route", "apply", "--yes", "--fingerprint", "other", check=False
    )
    assert answer.returncode
    assert not processes_in(site.project.folder)
    assert site.applied() == ["0001_initial"]


@on_each_once
def test_a_run_outlives_the_command_that_is_killed(build, pair):
    """It has a session of its own, and its output goes to its own file."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')}, serve=False)
    command = subprocess.Popen(
        [sys.executable, "manage.py", "migration_route", "apply", "--yes"],
        cwd=site.project.folder,
        env=site.project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    site.project.await_gate("wait")
    found = processes_in(site.project.folder)
    assert len(found) == 3  # command, supervisor, worker
    run = json.loads(site.project.manage("migration_route", "runs", "--json").stdout)
    (run,) = run["runs"]
    assert run["state"] == "running"
    assert sum(is_run_process(int(pid), run["id"]) for pid in found) == 2
    os.killpg(command.pid, signal.SIGKILL)
    output, _ = command.communicate(timeout=30)  # nothing else holds its output
    assert b"0002_wait" in output
    site.project.open_gate("wait")
    until(
        lambda: "succeeded" in state_of(site),
        seconds=60,
        what="the run ends",
    )
    assert site.applied() == ["0001_initial", "0002_wait"]
