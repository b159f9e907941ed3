"""Tests that a plan waits for approval and is then executed once. Scenarios F5, F6 and
F9."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import WRITE_THREE, WRITTEN, column, running
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options

SKU = {"0002_sku": column("sku")}
ONE = Options(migration_route={"APPROVALS": {}})

PROMOTE = """
from django.contrib.auth import get_user_model
get_user_model().objects.filter(username="helper").update(is_superuser=True)
"""

DYING = '''
"""A launcher whose process is killed, where a walk has left a file that says so."""

import os
import signal
from pathlib import Path

from migration_route.execution.launchers.process import ProcessLauncher

FOLDER = Path(__file__).parent


def die_if_told(name):
    path = FOLDER / name
    if path.exists():
        path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class Dying(ProcessLauncher):
    def __init__(self):
        die_if_told("die-before-it-is-queued")

    def launch(self, permit, run):
        die_if_told("die-before-it-is-started")
        super().launch(permit, run)
'''


def waiting(client, **words):
    """Request a run of everything, and return it as waiting."""
    run = client.run(client.plan(), **words)
    assert run["state"] == "awaiting_approval", run
    return run


def say(client, run, verb, reason="a walk"):
    """Approve or reject a run, and return any response."""
    return client.call("POST", f"runs/{run['id']}/{verb}", json={"reason": reason})


def answers(client):
    """Return whether the server responds."""
    try:
        return client.call("GET", "ready").status_code in {200, 503}
    except httpx.TransportError:
        return False  # the connection belonged to the killed worker


@on_each_once
def test_f5_whoever_asks_waits_and_another_person_lets_it_go(build, pair):
    """The plan shows the requirement in advance; machines and the requester cannot meet it;
    a second user does, for this run, once; and each of these is an entry. F6."""
    site = build(pair, SKU, options=ONE)
    site.project.python(PROMOTE)
    ci, boss, helper = site.client("ci"), site.person("boss"), site.person("helper")

    plan = boss.plan()
    assert plan["approval"]["required"] == 1
    assert plan["approval"]["permissions"] == ["approve"]
    run = waiting(boss)
    assert run["waiting"]["reason"] == "approval"
    assert run["waiting"]["until"] == run["approval"]["expires"]
    assert (run["approval"]["given"], run["approval"]["by"]) == (0, [])
    assert site.applied() == ["0001_initial"]
    status = boss.status()["default"]
    assert status["active_run"] == run["id"]

    expect_problem(say(boss, run, "approve"), 403, "forbidden")
    expect_problem(say(ci, run, "approve"), 403, "forbidden")
    expect_problem(say(ci, run, "reject"), 403, "forbidden")
    expect_problem(say(site.client(None), run, "approve"), 401, "unauthenticated")
    expect_problem(ci.ask_for_run(plan), 409, "active_run")
    assert site.applied() == ["0001_initial"]

    approved = expect(say(helper, run, "approve", "read it"), 200)
    assert approved["approval"]["given"] == 1
    ended = boss.wait_for_end(run["id"])
    assert ended["state"] == "succeeded"
    assert [one["name"] for one in ended["approval"]["by"]] == ["helper"]
    assert site.applied() == ["0001_initial", "0002_sku"]
    assert expect(say(helper, run, "approve"), 200)["state"] == "succeeded"

    entries = [entry for entry in boss.entries() if entry["run"] == run["id"]]
    (given,) = [entry for entry in entries if entry["action"] == "approved"]
    assert given["actor"] == {"kind": "user", "name": "helper"}
    assert given["facts"]["fingerprint"] == run["fingerprint"]
    assert given["facts"]["reason"] == "read it"
    assert given["address"] == "127.0.0.1"
    denied = [entry for entry in entries if entry["action"] == "denied"]
    assert {entry["actor"]["name"] for entry in denied} >= {"boss", "ci"}
    assert boss.get("ledger/verify")["intact"]

    # An approval applies to its run only.
    site.project.add_migrations({"0003_size": column("size", after="0002_sku")})
    again = waiting(boss)
    assert again["approval"]["given"] == 0


@on("postgres-gthread", "sqlite-sync")
def test_f5_an_approval_is_void_when_the_plan_changes_or_its_time_is_over(build, pair):
    """When the approved plan has changed, or the approval has expired, nothing is
    applied."""
    two = Options(migration_route={"APPROVALS": {"required": 2}})
    site = build(pair, SKU, options=two, timeout=60)  # a new process reads the plan
    site.project.python(PROMOTE)
    ci, boss, helper = site.client("ci"), site.person("boss"), site.person("helper")
    run = waiting(ci)
    assert expect(say(boss, run, "approve"), 200)["approval"]["given"] == 1
    site.project.add_migrations({"0002_sku": column("colour")})
    problem = expect_problem(say(helper, run, "approve"), 409, "stale_code", "plan_changed")
    assert problem["run"] == run["id"]
    assert ci.get(f"runs/{run['id']}")["state"] == "stale"
    expect_problem(say(boss, run, "reject"), 409, "invalid_state")

    # A request after another change replaces the waiting run.
    old = waiting(ci)
    site.project.add_migrations({"0002_sku": column("weight")})
    new = waiting(ci)
    assert ci.get(f"runs/{old['id']}")["state"] == "stale"
    assert expect(say(boss, new, "reject", "no"), 200)["state"] == "rejected"

    site.project.set_options(Options(migration_route={"APPROVALS": {"lifetime": "1s"}}))
    server = site.serve(timeout=60)
    ci = site.client("ci", server=server)
    run = waiting(ci)
    ended = ci.wait_for_end(run["id"], seconds=20)
    assert (ended["state"], ended["outcome"]) == ("expired", "expired")
    expect_problem(say(boss, run, "approve"), 409, "invalid_state")
    assert site.applied() == ["0001_initial"]


@on_each_once
def test_of_two_who_approve_at_once_on_two_servers_one_starts_it(build, pair):
    """The migration is executed once, and the run was queued once."""
    site = build(pair, {"0002_write": running(WRITE_THREE)}, options=ONE, workers=2)
    site.project.python(PROMOTE)
    site.serve(workers=2)
    ci = site.client("ci")
    people = [site.person("boss"), site.person("helper")]
    people[1].http.base_url = site.servers[1].url
    run = waiting(ci)
    callers = [people[number % 2] for number in range(6)]
    with ThreadPoolExecutor(len(callers)) as pool:
        answers = list(pool.map(lambda caller: say(caller, run, "approve"), callers))
    for answer in answers:
        if answer.status_code != 200:
            expect_problem(answer, 409, "invalid_state")
    assert any(answer.status_code == 200 for answer in answers)
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.names() == WRITTEN
    entries = [entry for entry in ci.entries() if entry["run"] == run["id"]]
    queued = [entry for entry in entries if entry["facts"].get("to") == "queued"]
    assert len(queued) == 1
    given = [entry for entry in entries if entry["action"] == "approved"]
    names = [entry["actor"]["name"] for entry in given]
    assert len(names) == len(set(names)) >= 1


@on("postgres-sync", "sqlite-gthread")
def test_an_approval_outlives_the_process_that_took_it(build, pair):
    """When the process is killed between the approval and the launch, at either point, the
    next request starts the run, and it is executed once."""
    site = build(
        pair,
        {"0002_write": running(WRITE_THREE)},
        options=Options(
            migration_route={"APPROVALS": {}, "LAUNCHER": "market.dying.Dying"}
        ),
        serve=False,
    )
    site.project.write("market/dying.py", DYING)
    site.serve(workers=1)
    ci, boss = site.client("ci"), site.person("boss")
    for name, launches in (("die-before-it-is-queued", 1), ("die-before-it-is-started", 2)):
        run = waiting(ci)
        site.project.write(f"market/{name}", "")
        try:
            answer = say(boss, run, "approve")
        except httpx.HTTPError:
            pass  # the worker is killed before it responds
        else:
            assert answer.status_code >= 500, answer.text
        assert not (site.project.folder / "market" / name).exists()
        until(lambda: answers(ci), seconds=60, what="another worker answers")
        ended = ci.wait_for_end(run["id"], seconds=120)
        assert ended["state"] == "succeeded", ended
        assert ended["approval"]["given"] == 1
        entries = [entry for entry in ci.entries() if entry["run"] == run["id"]]
        queued = [entry for entry in entries if entry["facts"].get("to") == "queued"]
        assert len(queued) == launches
        assert sum(entry["action"] == "approved" for entry in entries) == 1
        begun = [entry for entry in entries if entry["action"] == "step_started"]
        assert len(begun) == 1
        site.project.add_migrations({"0003_sku": column("sku", after="0002_write")})
    assert site.names() == WRITTEN
    assert site.has_column("sku")


BACK = {
    "rules": [{"verbs": ["reverse"], "required": 1}, {"verbs": ["apply"], "when": "never"}]
}


@on_each_once
def test_f9_going_back_needs_a_right_of_its_own_and_another_person(build, pair):
    """Forwards no approval is required; backwards the plan says what is lost, and waits."""
    site = build(pair, SKU, options=Options(migration_route={"APPROVALS": BACK}))
    ci, operator, boss = site.client("ci"), site.client("operator"), site.person("boss")
    assert ci.plan()["approval"] is None
    assert ci.apply()["state"] == "succeeded"
    plan = operator.plan("shop.0001_initial")
    assert plan["direction"] == "backwards"
    assert {"backwards", "drops_column"} & {found["code"] for found in plan["findings"]}
    assert plan["approval"]["rule"] == "rule 1 of APPROVALS"
    expect_problem(ci.ask_for_run(plan), 403, "forbidden")
    run = operator.run(plan)
    assert run["state"] == "awaiting_approval"
    assert site.has_column("sku")
    expect(say(boss, run, "approve"), 200)
    assert operator.wait_for_end(run["id"])["outcome"] == "reverted"
    assert not site.has_column("sku")


@on("sqlite-sync")
def test_the_command_waits_with_exit_code_6_and_its_shell_cannot_agree(build, pair):
    """The plan shows it in advance; another user approves, and `watch` shows the end."""
    site = build(pair, SKU, options=ONE)
    boss = site.person("boss")
    manage = site.project.manage
    told = manage("migration_route", "plan").stdout
    assert "needs 1 approval by another user with the permission approve, because" in told
    answer = manage("migration_route", "apply", "--yes", check=False)
    assert answer.returncode == 6, answer.stdout + answer.stderr
    assert "approved by 0 of 1" in answer.stdout
    (run,) = boss.get("runs")["runs"]
    assert run["requested_by"]["kind"] == "command"
    for words in (["approve", run["id"]], ["run", run["id"]]):
        code = manage("migration_route", *words, check=False).returncode
        assert code == (4 if words[0] == "approve" else 6)
    expect(say(boss, run, "approve"), 200)
    assert manage("migration_route", "watch", run["id"]).returncode == 0
    assert site.has_column("sku")

    site.project.add_migrations({"0003_size": column("size", after="0002_sku")})
    run = waiting(boss)
    shown = manage("migration_route", "reject", run["id"], "--reason", "not today").stdout
    assert "rejected by" in shown
    assert manage("migration_route", "watch", run["id"], check=False).returncode == 4


@on("sqlite-sync")
def test_the_smallest_view_and_the_page_ask_as_well(build, pair):
    """They respond at once with 202 and a run that waits."""
    site = build(pair, SKU, options=ONE)
    boss = site.person("boss")
    begun = time.monotonic()
    answer = expect(boss.http.post("/perform/"), 202)
    assert answer["state"] == "awaiting_approval"
    run = boss.get(f"runs/{answer['id']}")
    assert run["reason"] == "perform_migration"
    assert expect(boss.call("POST", f"runs/{run['id']}/cancel", json={}), 200)["ended"]
    plan = boss.plan()
    answer = boss.ask_for_run(plan, headers={"Prefer": "wait=30"})
    assert expect(answer, 202)["state"] == "awaiting_approval"
    assert time.monotonic() - begun < 25
    page = boss.http.get(f"/_m/runs/{answer.json()['id']}/").text
    assert "Requested plan" in page
    assert plan["fingerprint"] in page
    assert "You requested this run" in page
