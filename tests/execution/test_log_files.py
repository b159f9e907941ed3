"""Tests of the output files of processes: they are private to this user, and never break a
page."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from migration_route.core.enums import RunState
from migration_route.execution.launchers.process import (
    has_ended,
    log_path,
    open_log,
    remove_log,
    with_log_tail,
)
from migration_route.execution.recovery.reaper import reap
from migration_route.ledger import runs
from migration_route.ledger.queries import find_run, list_runs
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import PlanRequest
from migration_route.services.plans import plain_plan
from tests.factories import History, a_new_run

API = "/migrations/api/v1/"
RUN = "0" * 32
NOBODY = 65534


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a temporary directory that other users may write to."""
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o777)
    folder.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def call(path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Call the API as a machine; with a body, by POST."""
    client = Client(raise_request_exception=False)
    headers = {"Authorization": "Bearer deployer-secret"}
    if body:
        kind = "application/json"
        answer = client.post(API + path, body, content_type=kind, headers=headers)
    else:
        answer = client.get(API + path, headers={"Authorization": "Bearer reader-secret"})
    return answer.status_code, answer.json()


def write(run: str, text: str = "said") -> Path:
    """Write an output file of a run's process; return the file."""
    with open_log(run) as descriptor:
        os.write(descriptor, text.encode())
    found = log_path(run)
    assert found is not None
    return found


def test_the_directory_and_its_files_are_closed_to_others(temporary: Path) -> None:
    """The directory has mode 0700, a file 0600, and a second file shares the directory."""
    first, second = write(RUN), write("1" * 32)
    assert first.parent == second.parent
    assert first.parent.parent == temporary
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert has_ended(RUN)
    remove_log(RUN)
    assert log_path(RUN) is None
    assert not has_ended(RUN)
    assert [path.name for path in first.parent.iterdir()] == [second.name]


def _file(path: Path, elsewhere: Path) -> None:
    path.touch()


def _link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def _open_to_all(path: Path, elsewhere: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def _of_another_user(path: Path, elsewhere: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("decoy", [_file, _link, _open_to_all, _of_another_user])
def test_what_another_user_has_put_there_is_not_used(
    temporary: Path, tmp_path: Path, decoy: Any
) -> None:
    """Under every name that this package would try first."""
    if decoy is _of_another_user and os.geteuid():
        pytest.skip("only root can give a directory to another user")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    path = temporary / f"migration-route-{os.geteuid()}-"
    decoy(path, elsewhere)
    if path.is_dir():
        (path / f"{RUN}.log").write_text("a lie")
    assert log_path(RUN) is None
    found = write(RUN)
    assert found.parent != path
    assert with_log_tail("It ended.", RUN).startswith("said. It ended.")
    remove_log(RUN)
    assert log_path(RUN) is None
    assert [entry.name for entry in elsewhere.iterdir()] in ([], [f"{RUN}.log"])
    if path.is_dir():
        assert (path / f"{RUN}.log").read_text() == "a lie"


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_a_file_that_is_none_is_neither_read_nor_in_the_way(
    temporary: Path, tmp_path: Path, kind: str
) -> None:
    """A directory, a symlink to somewhere else, a pipe without a writer."""
    path = write(RUN)
    path.unlink()
    secret = tmp_path / "secret"
    secret.write_text("not for the ledger")
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(secret)
    else:
        os.mkfifo(path)
    assert with_log_tail("It ended.", RUN) == "It ended."
    assert not has_ended(RUN)
    remove_log(RUN)
    assert secret.read_text() == "not for the ledger"


def _ended_run() -> RunRecord:
    run, _ = runs.create_run(a_new_run())
    return runs.move(run.id, to=RunState.SUCCEEDED, expected={RunState.QUEUED})


def test_cleanup_that_fails_fails_no_read(database: None, temporary: Path) -> None:
    """Every page checks the runs that it shows, and removes their files."""
    run = _ended_run()
    predictable = temporary / f"migration-route-{os.getuid()}-{run.id}.log"
    (predictable / "inside").mkdir(parents=True)
    path = write(run.id)
    path.unlink()
    (path / "inside").mkdir(parents=True)
    assert reap(run) == run
    for place in ("status", "runs", f"runs/{run.id}"):
        status, _ = call(place)
        assert status == 200


def _vanished(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "nothing"))


def _none_at_all(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(
        tempfile, "_candidate_tempdir_list", lambda: [str(folder / "nothing")]
    )


@pytest.mark.parametrize("surroundings", [_vanished, _none_at_all])
def test_without_a_temporary_directory_the_run_has_failed(
    history: History,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    project: Any,
    surroundings: Any,
) -> None:
    """The error names the cause, the database is released, and reading works."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()
    history.table("0001_a", "made_a")
    fingerprint = plain_plan(PlanRequest(targets=("testapp",))).fingerprint
    surroundings(monkeypatch, temporary)
    body = {"targets": ["testapp"], "fingerprint": fingerprint}
    status, problem = call("runs", **body)
    assert (status, problem["code"]) == (503, "launch_failed")
    assert "temporary directory" in problem["detail"]
    assert "TMPDIR" in str(problem)
    (run,) = list_runs(database=None, before=None, limit=10)
    assert (run.state, run.outcome) == (RunState.FAILED, "launch_failed")
    for place in ("status", f"runs/{run.id}"):
        assert call(place)[0] == 200
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    status, answer = call("runs", **body)
    assert status == 202
    assert find_run(answer["id"]).state is RunState.SUCCEEDED
