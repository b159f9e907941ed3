"""Tests that a run to a target executes its steps in Django's order, as planned."""

from __future__ import annotations

import json

import pytest

from tests.harness.pairs import on, on_each_once

TARGETS = ("auth", "admin", "sessions")


def recorded(site):
    """Return the recorded migrations in order, except those of this package."""
    rows = site.rows("SELECT app, name FROM django_migrations ORDER BY id")
    return [f"{app}.{name}" for app, name in rows if app != "migration_route"]


def labels(steps):
    """Return the names of the steps."""
    return [f"{step['app']}.{step['name']}" for step in steps]


@on_each_once
def test_a_target_on_an_empty_database(build, pair):
    """By the command, with the dependencies of the target in other apps."""
    site = build(pair, empty=("default",))
    plan = site.client("ci").plan("auth")
    assert {"contenttypes.0001_initial", "auth.0001_initial"} <= set(labels(plan["steps"]))
    site.project.manage("migration_route", "apply", "--yes", "auth")
    assert recorded(site) == labels(plan["steps"])


@on("sqlite-gthread", "postgres-uvicorn")
def test_several_targets_on_an_empty_database(build, pair):
    """Each is a migrate of its own; one depends on the other."""
    site = build(pair, empty=("default",))
    client = site.client("ci")
    plan = client.plan(*TARGETS)
    run = client.wait_for_end(client.run(plan)["id"])
    assert run["state"] == "succeeded", run
    assert recorded(site) == labels(plan["steps"])


@on("sqlite-gthread", "postgres-uvicorn", "mariadb-sync")
def test_a_phase_of_a_target(build, pair):
    """Its steps come from several apps, after a target that is already applied."""
    site = build(pair, empty=("default",))
    client = site.client("ci")
    run = client.apply("contenttypes.0001_initial")
    assert run["state"] == "succeeded", run
    before = recorded(site)
    plan = client.get("plan", phase="before_deploy", target=["admin"])
    assert len({step["app"] for step in plan["steps"]}) > 1
    run = client.wait_for_end(client.run(plan, phase="before_deploy")["id"])
    assert run["state"] == "succeeded", run
    assert recorded(site)[len(before) :] == labels(plan["steps"])


@pytest.mark.parametrize("in_place", [False, True])
@on("sqlite-gthread", "postgres-uvicorn", "mariadb-sync")
def test_the_rehearsal_of_a_target(build, pair, in_place):
    """On a copy, and in place where the database can roll it back."""
    if in_place and pair.vendor != "postgres":
        pytest.skip(f"{pair.vendor} does not rehearse in place")
    site = build(pair, empty=("default",))
    site.project.manage("migration_route", "apply", "--yes", "sessions")
    before = recorded(site)
    flags = ["--in-place"] if in_place else []
    words = ["migration_route", "rehearse", "--json", *flags, "auth"]
    found = json.loads(site.project.manage(*words).stdout)
    assert found["state"] == "succeeded", found
    planned = site.client("ci").plan("auth")["steps"]
    assert labels(found["report"]["steps"]) == labels(planned)
    assert recorded(site) == before
