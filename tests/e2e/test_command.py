"""Tests that `manage.py migration_route` corresponds to the API, and of its exit codes."""

from __future__ import annotations

import hashlib
import json
import re

from tests.harness.migrations import RUN, column, migration, running
from tests.harness.pairs import on
from tests.harness.project import Options

DONE, FAILED, USAGE, PENDING, REFUSED = 0, 1, 2, 3, 5


def command(site, *words):
    """Run the command and return its exit code and output."""
    answer = site.project.manage("migration_route", *words, check=False)
    assert "Traceback" not in answer.stderr, answer.stderr
    return answer.returncode, answer.stdout + answer.stderr


def as_json(site, *words, code=DONE):
    """Run the command with `--json` and decode its output."""
    answer = site.project.manage("migration_route", *words, "--json", check=False)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


@on("postgres-gthread")
def test_status_plan_runs_show_as_text(build, pair):
    """The text shows what is pending, what would happen, and what was done."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    code, text = command(site, "status", "--check")
    assert code == PENDING
    assert "0002_sku" in text or "1 pending" in text
    code, text = command(site, "plan")
    assert code == DONE
    assert "0002_sku" in text
    assert site.applied() == ["0001_initial"]
    code, text = command(site, "apply", "--yes")
    assert code == DONE
    assert "0002_sku" in text
    assert site.has_column("sku")
    assert command(site, "status", "--check")[0] == DONE
    code, text = command(site, "runs")
    assert code == DONE
    assert "succeeded" in text


@on("mariadb-uvicorn")
def test_status_plan_apply_runs_show_as_json(build, pair):
    """The JSON is that of the API."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    status = as_json(site, "status")
    assert status["databases"][0]["pending_migrations"] == ["shop.0002_sku"]
    plan = as_json(site, "plan", "shop.0002_sku")
    assert [step["name"] for step in plan["steps"]] == ["0002_sku"]
    run = as_json(site, "apply", "--yes")
    assert run["state"] == "succeeded"
    assert run["requested_by"]["kind"] == "command"
    assert run["fingerprint"] == as_json(site, "show", run["id"])["fingerprint"]
    assert site.has_column("sku")
    assert as_json(site, "apply", "--yes")["state"] == "noop"
    assert run["id"] in [entry["id"] for entry in as_json(site, "runs")["runs"]]
    assert as_json(site, "ledger", "verify")["intact"]


@on("sqlite-sync")
def test_exit_codes_of_what_goes_wrong(build, pair):
    """A failed run is 1, wrong usage 2, a changed or conflicting state 5."""
    site = build(
        pair,
        {"0002_breaks": migration(RUN, body='raise ValueError("no")')},
        serve=False,
    )
    code, text = command(site, "apply", "--yes")
    assert code == FAILED
    assert "ValueError" in text
    assert site.applied() == ["0001_initial"]
    assert command(site, "plan", "nothing")[0] == USAGE
    assert command(site, "plan", "--database", "nowhere")[0] == USAGE
    assert command(site, "dance")[0] == USAGE
    assert command(site, "show", "no-such-run")[0] == USAGE
    site.project.add_migrations({"0002_other": column("sku")})
    assert command(site, "plan")[0] == REFUSED
    assert command(site, "apply", "--yes")[0] == REFUSED


@on("sqlite-sync")
def test_apply_asks_where_somebody_can_answer(build, pair):
    """Without `--yes` and without an answer nothing is applied."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    answer = site.project.manage("migration_route", "apply", check=False, text="no\n")
    assert answer.returncode != DONE
    assert site.applied() == ["0001_initial"]


@on("mariadb-uvicorn")
def test_a_new_token_works_when_it_is_pasted(build, pair):
    """The secret and the settings entry that `token new` prints match."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    new = site.project.manage("migration_route", "token", "new", "robot", "--scope", "read")
    sha256 = re.search(r"\b[0-9a-f]{64}\b", new.stdout)
    assert sha256, new.stdout
    words = re.findall(r"[\w.~-]{20,}", new.stdout)
    secrets = [w for w in words if hashlib.sha256(w.encode()).hexdigest() == sha256.group()]
    assert secrets, new.stdout
    entry = {"name": "robot", "sha256": sha256.group(), "scopes": ["read"]}
    site.project.set_options(Options(migration_route={"TOKENS": [entry]}))
    site.serve(workers=1)
    caller = site.client(None)
    caller.http.headers["Authorization"] = f"Bearer {secrets[0]}"
    assert caller.status()["default"]["pending"] == 1


@on("postgres-gthread")
def test_the_command_is_refused_while_a_run_is_active(build, pair):
    """The refusal names the user of the active run."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')})
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("wait")
    code, text = command(site, "apply", "--yes")
    assert code == REFUSED
    assert run["id"] in text
    site.project.open_gate("wait")
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.applied() == ["0001_initial", "0002_wait"]
