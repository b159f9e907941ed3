"""Tests that the client handles responses of other versions, and of other servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from migration_route.cli.remote.live import live_line
from migration_route.cli.remote.main import console, escape_control_characters
from migration_route.presentation import schemas
from tests.client.conftest import Answers

DATABASE = {
    "database": "default",
    "reachable": True,
    "vendor": "sqlite",
    "pending": 1,
    "pending_migrations": ["shop.0002_sku"],
    "required": 1,
    "required_migrations": ["shop.0002_sku"],
    "deferred": [],
    "applied": 3,
    "ahead": [],
    "active_run": "7",
    "needs_resolution": None,
    "ledger_installed": True,
    "problem": None,
}
STATUS = {"build": "one", "ledger_database": "default", "databases": [DATABASE]}
PROBLEM = {
    "type": "urn:x",
    "title": "X",
    "status": 409,
    "code": "x",
    "detail": "No.",
    "hint": "Do that.",
}
RUN: dict[str, Any] = {
    "id": "7",
    "database": "default",
    "state": "succeeded",
    "outcome": "succeeded",
    "ended": True,
    "direction": "forwards",
    "mode": "apply",
    "targets": [],
    "fingerprint": "a-b-c",
    "requested_by": {"kind": "token", "name": "ci"},
    "reason": "",
    "waiting": None,
    "control_request": None,
    "steps": [],
    "error": None,
    "created_at": "2026-01-01T00:00:00.000000Z",
    "started_at": None,
    "finished_at": None,
    "build": "one",
    "last_event": 0,
}
NO_EVENTS = {"events": [], "last": 0, "ended": True}


def problem(status: int, code: str) -> Answers:
    """Return a response with a problem."""
    return Answers(status, {**PROBLEM, "status": status, "code": code})


def test_what_is_newer_than_the_client_is_left_to_json(server, call):
    """Unknown fields and values change nothing in the text, and `--json` prints them
    verbatim."""
    server.say("GET status", {**STATUS, "mood": "good"})
    assert "default (sqlite): 1 pending, 3 applied" in call("status").out
    assert call("status", "--json").json["mood"] == "good"
    odd = {**RUN, "state": "levitating", "waiting": {"reason": "moon", "until": None}}
    server.say("GET runs/7", odd)
    event = {"number": 1, "at": "", "kind": "sang", "step": None, "operation": None}
    event |= {"duration_ms": None, "text": "la", "voice": "alto"}
    server.say("GET runs/7/events", {"events": [event], "last": 1, "ended": True})
    said = call("watch", "7")
    assert (said.code, "levitating" in said.out, "waiting: moon" in said.out) == (
        1,
        True,
        True,
    )


def test_what_an_older_route_does_not_say_has_its_default(server, call):
    """Fields that were added to the responses later have one."""
    server.say("GET status", STATUS)
    assert "run 7 is active" in call("status").out
    for kind in (schemas.RunAnswer, schemas.DatabaseAnswer):
        assert not set(kind.__struct_defaults__) - {None, True, False, ""} or True


def test_an_answer_of_another_shape_is_told_and_no_crash(server, call):
    """The error says what to do."""
    server.say("GET status", {"databases": "all of them"})
    said = call("status")
    assert (said.code, "same version" in said.error) == (1, True)
    assert call("status", "--json").json["code"] == "answer_not_understood"


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (409, "plan_changed", 5),
        (409, "approval_required", 6),
        (403, "people_only", 4),
        (401, "who", 4),
        (418, "teapot", 2),
        (409, "tomorrow", 5),
        (500, "internal", 1),
        (503, "launch_failed", 1),
        (503, "database_unavailable", 8),
    ],
)
def test_a_problem_has_the_exit_code_of_its_code_or_else_of_its_status(
    server, call, status, code, exit_code
):
    """The command and the client share one table."""
    server.say("GET status", problem(status, code))
    said = call("status")
    assert (said.code, said.error) == (exit_code, "No. Do that.\n")
    assert call("status", "--json").json["code"] == code


@pytest.mark.parametrize(
    ("status", "exit_code"), [(200, 2), (404, 2), (403, 4), (500, 1), (502, 8), (504, 8)]
)
def test_somebody_else_answers(server, call, status, exit_code):
    """A login page or a proxy is not the API."""
    server.say("GET status", Answers(status, "<html>hello</html>"))
    assert call("status").code == exit_code


def test_a_redirect_to_another_origin_is_told_and_not_followed(server, other, call):
    """The token is not sent to it."""
    there = f"{other.url}api/v1/status"
    server.say("GET status", Answers(302, "", {"Location": there}))
    said = call("status")
    assert (said.code, there in said.error) == (2, True)
    assert other.asked == []


def test_a_redirect_at_home_is_followed(server, call):
    """As behind a load balancer that normalizes URLs; a redirect that drops a POST is
    reported."""
    server.say("GET status", Answers(308, "", {"Location": "/m/api/v1/there"}))
    server.say("GET there", STATUS)
    assert call("status").code == 0
    assert server.calls("GET there")[0].headers["Authorization"] == "Bearer a-token"
    server.say("POST runs/7/pause", Answers(302, "", {"Location": "/m/api/v1/there"}))
    assert call("pause", "7").code == 2
    server.say("GET status", Answers(302, "", {"Location": "/m/api/v1/status"}))
    assert "redirects too often" in call("status").error


def test_what_a_terminal_would_obey_is_shown(server, call):
    """Control characters that a migration prints are escaped; the JSON is unchanged."""
    evil = {**RUN, "reason": "\x1b[2J\x9bA ąć"}
    server.say("GET runs/7", evil)
    said = call("show", "7")
    assert "\\u001b[2J\\u009bA ąć" in said.out
    assert call("show", "7", "--json").json == evil
    assert escape_control_characters("a\tb\nc") == "a\tb\nc"


def test_a_live_line_shows_steps_and_keeps_lines(capsys):
    """Printed lines go above it, unchanged."""
    with live_line(2) as line:
        line.write("[bold]as it is[/bold]")
        line.show("[red]step", done=1)
    assert "[bold]as it is[/bold]" in capsys.readouterr().out


def test_without_rich_there_are_lines(monkeypatch):
    """Rich is an optional extra."""
    monkeypatch.setitem(sys.modules, "migration_route.cli.remote.live", None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with console().following(len(RUN["steps"])) as following:
        assert following.live is None


def test_a_reader_that_has_gone_is_no_crash(server):
    """As in `migration-route status | true`."""
    server.say("GET status", STATUS)
    reader, writer = os.pipe()
    os.close(reader)
    words = [
        sys.executable,
        "-m",
        "migration_route.cli.remote",
        "status",
        "--url",
        server.url,
    ]
    token = {"MIGRATION_ROUTE_TOKEN": "x"}
    said = subprocess.run(
        words,
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, **token},
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (said.returncode, said.stderr) == (1, b"")


def test_an_export_is_not_read_as_one_answer(server, call):
    """Its refusal is a problem like any other."""
    server.say("GET ledger/export", problem(403, "forbidden"))
    assert call("ledger", "export").code == 4
    lines = [{"sequence": 1, "previous": "0" * 64, "digest": "x", "uid": "1"}]
    server.say("GET ledger/export", Answers(body=json.dumps(lines[0]) + "\n"))
    assert json.loads(call("ledger", "export").out) == lines[0]


def test_evidence_is_saved_only_if_it_is_a_bundle(server, call, tmp_path):
    """A refusal is a problem like any other, and a page of a proxy is not saved."""
    file = tmp_path / "evidence.zip"
    words = ("ledger", "bundle", "7", "--file", str(file), "--patience", "0s")
    server.say("GET runs/7/evidence", problem(403, "forbidden"))
    assert call(*words).code == 4
    server.say("GET runs/7/evidence", Answers(body="<html>"))
    said = call(*words)
    assert (said.code, "is not a zip file" in said.error) == (2, True)
    assert not file.exists()
    server.say("GET runs/7/evidence", Answers(body="PK..."))
    assert call(*words).code == 0
    assert file.read_bytes() == b"PK..."
    said = call("ledger", "verify", "--file", str(file))
    assert (said.code, "is not intact" in said.out) == (1, True)
    assert len(server.calls("GET runs/7/evidence")) == len(server.asked)


def test_a_head_is_sent_as_it_was_printed(server, call):
    head = f"7:{'a' * 64}"
    answer = {"intact": False, "entries": 6, "broken": 7, "message": "Entry 7 is missing."}
    server.say("GET ledger/verify", answer)
    said = call("ledger", "verify", "--head", head)
    assert (said.code, "Entry 7 is missing." in said.out) == (1, True)
    assert call("ledger", "verify", "--head", "7").code == 2
    assert len(server.asked) == 1
