"""Tests with django-pg-zero-downtime-migrations: its schema editor uses no transaction, and
defers statements as objects."""

from __future__ import annotations

import pytest

from tests.harness.migrations import RUN, migration
from tests.harness.pairs import on
from tests.harness.project import Options

pytest.importorskip(
    "django_zero_downtime_migrations",
    reason="django-pg-zero-downtime-migrations is not installed",
)

ENGINE = "django_zero_downtime_migrations.backends.postgres"
POSTGRES = on("postgres-gthread")
OWNER = (
    'migrations.AddField("item", "owner", models.ForeignKey("shop.Item", '
    "models.CASCADE, null=True))"
)
FIRST, SECOND = (
    f'migrations.AddField("item", "{name}", models.IntegerField(null=True))'
    for name in ("first", "second")
)
FAILS_ONCE = """
import pathlib
flag = pathlib.Path("failed")
if not flag.exists():
    flag.touch()
    raise RuntimeError("not this time")
"""


def site_of(build, pair, **words):
    """Build a site whose database has this backend."""
    return build(pair, options=Options(connection={"ENGINE": ENGINE, **words}))


def two_columns_and_python(site):
    """Return a migration that fails once after its second column."""
    text = migration(FIRST, SECOND, RUN, body=FAILS_ONCE)
    site.project.add_migrations({"0002_two": text})


@POSTGRES
def test_the_plan_tells_what_is_deferred(build, pair):
    """Several statements in one object; the step is not rolled back when it fails."""
    site = site_of(build, pair)
    site.project.add_migrations({"0002_owner": migration(OWNER)})
    plan = site.client("ci").plan()
    (step,) = plan["steps"]
    assert not step["rolls_back"]
    assert not plan["transactional_ddl"]
    end = " ".join(step["operations"][-1]["sql"])
    assert "FOREIGN KEY" in end
    assert "VALIDATE CONSTRAINT" in end


@POSTGRES
def test_a_step_that_stopped_midway_is_partial_and_is_resumed(build, pair):
    """Both columns are there, and the run reports it."""
    site = site_of(build, pair)
    two_columns_and_python(site)
    client = site.client("ci")
    run = client.wait_for_end(client.run(client.plan())["id"])
    assert {"first", "second"} <= site.database.columns("shop_item")
    assert run["state"] == "partial", run
    states = [found["state"] for found in run["steps"][0]["operations"]]
    assert states == ["present", "present", "absent"]
    words = ["resolve", run["id"], "--how", "continue", "--reason", "try again"]
    site.project.manage("migration_route", *words)
    assert site.applied() == ["0001_initial", "0002_two"]


@POSTGRES
def test_the_editor_of_the_direct_alias_counts(build, pair):
    """The migrating connection decides, not that of the pages."""
    site = build(pair)
    usual = site.database.settings()
    words = {"DATABASES": {"default": {"direct_alias": "direct"}}}
    settings = {"DATABASES": {"direct": {**usual, "ENGINE": ENGINE}}}
    site.project.set_options(Options(migration_route=words, settings=settings))
    two_columns_and_python(site)
    answer = site.project.manage("migration_route", "apply", "--yes", "--json", check=False)
    assert answer.returncode == 7, answer.stdout + answer.stderr
    assert {"first", "second"} <= site.database.columns("shop_item")
