"""Tests of a deploy in two phases: what the new release needs before it, what breaks the
old one after it."""

from __future__ import annotations

import contextlib
import os
import signal

from tests.e2e.test_command import command
from tests.e2e.test_rehearsal import wait
from tests.harness import processes
from tests.harness.client import API, expect, expect_problem
from tests.harness.migrations import RUN, migration
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options

BEFORE, AFTER = "before_deploy", "after_deploy"
ADD = 'migrations.AddField("item", "title", models.CharField(max_length=100, null=True))'
REMOVE = 'migrations.RemoveField("item", "name")'
NEW_MODEL = """\
from django.db import models


class Item(models.Model):
    title = models.CharField(max_length=100, null=True)
"""
LOOSEN = (
    'migrations.AlterField("item", "name", models.CharField(max_length=100, null=True))'
)


def the_deploy() -> dict[str, str]:
    """Return a release that replaces a column: the old one accepts NULL before it is
    dropped, so that the new code can write without it."""
    return {
        "0002_title": migration(ADD, LOOSEN),
        "0003_fill": migration(RUN, after="0002_title", body="assert Item is not None"),
        "0004_no_name": migration(REMOVE, after="0003_fill"),
    }


def plan_of(client, phase, *targets):
    """GET the plan of a phase."""
    return client.get("plan", phase=phase, target=list(targets))


def labels(steps) -> list[str]:
    """Return the names of the steps."""
    return [step["name"] for step in steps]


def apply(client, phase, *targets):
    """Apply one phase and return the ended run."""
    plan = plan_of(client, phase, *targets)
    run = client.run(plan, phase=phase)
    return client.wait_for_end(run["id"])


def ready(site, server=None):
    """Request readiness as a load balancer does."""
    code: int = site.client(None, server=server).http.get(f"{API}ready").status_code
    return code


def write_with_new_code(site):
    """Insert a row with the code that is on disk, and return what that code reads."""
    source = (
        "from shop.models import Item; Item.objects.create(title='new');"
        "print(Item.objects.filter(title='new').count())"
    )
    said: str = site.project.python(source)
    return said


@on_each_once
def test_a_deploy_in_two_phases(build, pair):
    """Before: ready while the rest is deferred, and both releases work. After: everything
    is applied, as `manage.py migrate` would leave it."""
    site = build(pair, the_deploy())
    ci = site.client("ci")
    assert ready(site) == 503
    plan = plan_of(ci, BEFORE)
    assert labels(plan["steps"]) == ["0002_title", "0003_fill"]
    assert [(left["name"], left["phase"]) for left in plan["deferred"]] == [
        ("0004_no_name", AFTER)
    ]
    expect_problem(ci.ask_for_run(plan), 409, "plan_changed")
    expect_problem(ci.ask_for_run(plan_of(ci, AFTER), phase=AFTER), 409, "refused")
    run = apply(ci, BEFORE)
    assert (run["state"], run["phase"]) == ("succeeded", BEFORE), run
    assert labels(run["deferred"]) == ["0004_no_name"]
    assert ready(site) == 200
    status = ci.status()["default"]
    assert (status["pending"], status["required"]) == (1, 0)
    assert status["deferred"][0]["since"] == run["finished_at"]
    assert not status["deferred"][0]["overdue"]
    site.execute("INSERT INTO shop_item (name) VALUES ('old')")
    site.project.write("shop/models.py", NEW_MODEL)
    assert write_with_new_code(site) == "1"
    assert command(site, "status", "--check", "required")[0] == 0
    assert command(site, "status", "--check")[0] == 3

    run = apply(ci, AFTER)
    assert (run["state"], labels(run["steps"])) == ("succeeded", ["0004_no_name"]), run
    assert not site.has_column("name")
    assert write_with_new_code(site) == "2"
    site.project.manage("migrate", "--check")
    assert "No migrations to apply" in site.project.manage("migrate").stdout
    assert ci.get("ledger/verify")["intact"]


@on_each_once
def test_a_phase_that_is_killed_in_the_middle_is_carried_out_again(build, pair):
    """Its deferred steps stay deferred, and `manage.py migrate` reaches the same end."""
    release = the_deploy()
    release["0003_fill"] = migration(RUN, after="0002_title", body='pass_gate("fill")')
    site = build(
        pair, release, options=Options(migration_route={"HEARTBEAT_TIMEOUT": "2s"})
    )
    ci = site.client("ci")
    before = processes.living_in(site.project.folder)
    run = ci.run(plan_of(ci, BEFORE), phase=BEFORE)
    site.project.await_gate("fill")
    for pid in processes.living_in(site.project.folder) - before:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended = ci.wait_for_end(run["id"], seconds=20)
    assert ended["state"] == "failed", ended
    assert ready(site) == 503
    assert ci.status()["default"]["deferred"][0]["since"] is None
    site.project.open_gate("fill")
    assert labels(plan_of(ci, BEFORE)["steps"]) == ["0003_fill"]
    assert apply(ci, BEFORE)["state"] == "succeeded"
    assert ready(site) == 200
    assert site.has_column("name")
    site.project.manage("migrate")
    assert site.applied() == ["0001_initial", *release]
    assert not site.has_column("name")


@on("postgres-sync", "sqlite-gthread")
def test_what_a_later_build_still_finds_is_overdue(build, pair):
    """Deferred by the current build, steps are expected; deferred by another, they are
    reported."""
    first = Options(migration_route={"BUILD": "one"})
    site = build(pair, the_deploy(), options=first)
    ci = site.client("ci")
    assert apply(ci, BEFORE)["state"] == "succeeded"
    assert "overdue" not in [found["code"] for found in ci.plan()["findings"]]
    site.project.set_options(Options(migration_route={"BUILD": "two"}))
    later = site.client("ci", server=site.serve())
    left = later.status()["default"]["deferred"][0]
    assert (left["name"], left["by"], left["overdue"]) == ("0004_no_name", "one", True)
    assert "overdue" in [found["code"] for found in later.plan()["findings"]]
    assert ready(site, site.servers[1]) == 200
    printed = site.project.manage("migration_route", "status").stdout
    assert "overdue" in printed


@on("mariadb-uvicorn", "postgres-gthread")
def test_a_removal_in_the_way_of_an_addition_blocks_the_first_phase(build, pair):
    """It is reported, not reordered; migrating to the removal alone resolves it."""
    site = build(
        pair,
        {
            "0002_no_name": migration(REMOVE),
            "0003_title": migration(ADD, after="0002_no_name"),
        },
    )
    ci = site.client("ci")
    plan = plan_of(ci, BEFORE)
    assert plan["steps"] == []
    problem = expect_problem(ci.ask_for_run(plan, phase=BEFORE), 409, "refused")
    assert "shop.0002_no_name" in problem["hint"]
    assert ready(site) == 503
    assert apply(ci, AFTER, "shop.0002_no_name")["state"] == "succeeded"
    assert apply(ci, BEFORE)["state"] == "succeeded"
    assert ready(site) == 200


@on("sqlite-gthread", "mariadb-sync")
def test_the_command_and_the_pages_know_the_phases(build, pair):
    """Every interface has the same choice."""
    site = build(pair, the_deploy())
    manage = site.project.manage
    shown = manage("migration_route", "plan", "--phase", BEFORE).stdout
    assert "deferred: shop.0004_no_name: after_deploy" in shown
    manage("migration_route", "apply", "--phase", BEFORE, "--yes")
    boss = site.person("boss")
    page = boss.http.get("/_m/plan/", params={"phase": BEFORE}).text
    assert "Deferred steps" in page
    assert "shop.0004_no_name" in boss.http.get("/_m/").text
    page = boss.http.get("/_m/plan/", params={"phase": AFTER}).text
    assert f'name="phase" value="{AFTER}"' in page
    manage("migration_route", "apply", "--phase", AFTER, "--yes")
    assert site.applied() == ["0001_initial", *the_deploy()]


@on("postgres-uvicorn")
def test_faking_a_phase_records_its_steps_alone(build, pair):
    """Fake works with a phase; several targets do not."""
    site = build(pair, the_deploy())
    operator = site.client("operator")
    plan = operator.get("plan", phase=BEFORE, mode="fake")
    run = operator.run(plan, phase=BEFORE, fake=True)
    assert operator.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.applied() == ["0001_initial", "0002_title", "0003_fill"]
    assert not site.has_column("title")
    answer = operator.call(
        "GET", "plan", params={"phase": AFTER, "target": ["shop", "auth"]}
    )
    expect_problem(answer, 400, "invalid_request")
    expect_problem(
        operator.call("GET", "plan", params={"phase": "later"}), 400, "invalid_request"
    )
    assert (
        expect(operator.call("GET", "plan", params={"phase": "any"}), 200)["phase"] is None
    )


@on_each_once
def test_a_phase_is_rehearsed_alone(build, pair):
    """The copy gets what the phase executes, and nothing of what it leaves out."""
    site = build(pair, the_deploy())
    operator = site.client("operator")
    plan = plan_of(operator, BEFORE)
    body = {"fingerprint": plan["fingerprint"], "phase": BEFORE, "reason": "first"}
    answer = operator.call("POST", "rehearsals", json=body)
    found = wait(operator, expect(answer, 202)["id"])
    assert (found["state"], found["phase"]) == ("succeeded", BEFORE), found["error"]
    assert labels(found["report"]["steps"]) == ["0002_title", "0003_fill"]
    assert plan_of(operator, BEFORE)["rehearsed"]["id"] == found["id"]
    assert operator.plan()["rehearsed"] is None
    expect_problem(
        operator.call("POST", "rehearsals", json={**body, "phase": None}),
        409,
        "plan_changed",
    )
    assert site.applied() == ["0001_initial"]
