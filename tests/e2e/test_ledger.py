"""Tests that events are recorded on the ledger, and that tampering is detected."""

from __future__ import annotations

from tests.harness import remote
from tests.harness.client import expect_problem
from tests.harness.migrations import RUN, column, migration
from tests.harness.pairs import on, on_each_once


@on_each_once
def test_a_failed_run_stays_on_the_ledger(build, pair):
    """Who requested it, why, from where and how it ended remains after the rollback."""
    site = build(pair, {"0002_breaks": migration(RUN, body='raise ValueError("no")')})
    ci = site.client("ci")
    run = ci.apply()
    entries = [entry for entry in ci.entries() if entry["run"] == run["id"]]
    actions = [entry["action"] for entry in entries]
    assert actions[0] == "run_requested"
    assert {"step_started", "step_finished", "run_state"} <= set(actions)
    assert entries[0]["actor"] == {"kind": "token", "name": "ci"}
    assert entries[0]["address"] == "127.0.0.1"
    assert entries[0]["facts"]["reason"] == "a walk"
    assert entries[-1]["facts"]["to"] == "failed"
    sequences = [entry["sequence"] for entry in ci.entries()]
    assert sequences == list(range(1, len(sequences) + 1))


@on("sqlite-uvicorn")
def test_a_refusal_is_an_entry(build, pair):
    """A refused run is recorded with its code."""
    site = build(pair, {"0002_sku": column("sku")})
    ci = site.client("ci")
    plan = ci.plan()
    ci.wait_for_end(ci.run(plan)["id"])
    expect_problem(ci.ask_for_run(plan), 409, "plan_changed")
    refused = [entry for entry in ci.entries() if entry["action"] == "refused"]
    assert len(refused) == 1
    assert refused[0]["facts"]["code"] == "plan_changed"


@on("mariadb-gthread")
def test_an_entry_that_was_changed_is_found(build, pair):
    """A row changed directly in the database breaks the chain at that row."""
    site = build(pair, {"0002_sku": column("sku")})
    ci = site.client("ci")
    ci.apply()
    verdict = ci.get("ledger/verify")
    assert verdict["intact"]
    assert verdict["entries"] == len(ci.entries())
    site.execute("UPDATE migration_route_entry SET action = 'denied' WHERE sequence = 2")
    verdict = ci.get("ledger/verify")
    assert not verdict["intact"]
    assert verdict["broken"] == 2
    answer = site.project.manage("migration_route", "ledger", "verify", check=False)
    assert answer.returncode != 0


@on_each_once
def test_the_evidence_of_a_run_outlasts_a_ledger_that_was_cut_off(build, pair, tmp_path):
    """The client saves it and verifies it offline, the command verifies its signature, and
    the head that the run printed shows that entries are missing."""
    site = build(pair, {"0002_sku": column("sku")})
    route = f"{site.server.url}/_m/"
    applied = remote.call(route, "apply", "--yes")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    head = applied.stdout.splitlines()[-1].removeprefix("Ledger head: ")
    run = site.client("ci").get("runs")["runs"][0]["id"]
    file, keys = tmp_path / "evidence.zip", tmp_path / "key"
    saved = remote.call(route, "ledger", "bundle", run, "--file", str(file))
    assert saved.returncode == 0, saved.stderr

    offline = ("ledger", "verify", "--file", str(file))
    answer = remote.call("", *offline, who=None)
    assert (answer.returncode, f"run {run} (succeeded) is intact" in answer.stdout) == (
        0,
        True,
    )
    assert "The signature was not checked" in answer.stdout
    keys.write_text("walk-secret-key-that-must-never-be-seen")
    answer = remote.call("", *offline, "--key-file", str(keys), who=None)
    assert (answer.returncode, "The signature is valid." in answer.stdout) == (0, True)
    answer = site.project.manage("migration_route", *offline)
    assert "The signature is valid." in answer.stdout

    verify = ("ledger", "verify", "--head", head)
    assert remote.call(route, *verify).returncode == 0
    site.execute(
        "DELETE FROM migration_route_entry WHERE sequence > 2",
        "DELETE FROM migration_route_event",
    )
    assert remote.call(route, "ledger", "verify").returncode == 0
    answer = remote.call(route, *verify)
    assert (answer.returncode, "so its end was cut off" in answer.stdout) == (1, True)
    answer = site.project.manage("migration_route", *verify, check=False)
    assert (answer.returncode, "so its end was cut off" in answer.stdout) == (1, True)
    assert remote.call("", *offline, who=None).returncode == 0
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert remote.call("", *offline, who=None).returncode == 1
