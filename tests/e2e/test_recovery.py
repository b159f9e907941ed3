"""Tests of the state after a run was killed, and of its recovery. Scenarios D3, D4, D7."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.harness import processes
from tests.harness.client import expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import ADD_SKU, WRITE_THREE, WRITTEN, column, migration
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options, Project
from tests.outcome.catalogs import schema_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.database import Database
    from tests.harness.site import Site

SHORT = Options(migration_route={"HEARTBEAT_TIMEOUT": "2s"})
ADD_SIZE = 'migrations.AddField("item", "size", models.IntegerField(null=True))'
IN_ITS_OWN = "migrations.RunPython(forwards, backwards, atomic=True)"
# Killed between its commit and its record: the index of the new column comes last.
INDEXED = (
    'migrations.AddField("item", "code", models.IntegerField(null=True, db_index=True))'
)
STOP_BEFORE_RECORDING = """

from django.db.migrations.recorder import MigrationRecorder

usual = MigrationRecorder.record_applied


def record_applied(self, app, name):
    if (app, name) == ("shop", "0002_code"):
        pass_gate("unrecorded")
    usual(self, app, name)


MigrationRecorder.record_applied = record_applied
"""


def killed_at(site: Site, gate: str, *targets: str) -> dict[str, Any]:
    """Start a run, kill its processes at a gate with SIGKILL, and return it as it ended."""
    ci = site.client("ci")
    before = processes.living_in(site.project.folder)
    run = ci.run(ci.plan(*targets))
    site.project.await_gate(gate)
    at_work = processes.living_in(site.project.folder) - before
    assert at_work
    for pid in at_work:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended: dict[str, Any] = ci.wait_for_end(run["id"], seconds=30)
    site.project.open_gate(gate)
    return ended


def states(run: dict[str, Any]) -> list[str]:
    """Return the reported state of each operation of the first step."""
    return [found["state"] for found in run["steps"][0]["operations"] or ()]


def resolve(site: Site, run: dict[str, Any], how: str) -> Any:
    """Resolve a run as the superuser, and return any response."""
    body = {"reason": "a walk", "how": how}
    return site.person("boss").call("POST", f"runs/{run['id']}/resolve", json=body)


def outcome(database: Database) -> tuple[object, ...]:
    """Return what the migrations have created: schema, rows and record."""
    rows = database.rows("SELECT name, sku, size, colour FROM shop_item ORDER BY id")
    return schema_of(database), rows, database.applied()


def undisturbed_outcome(
    site: Site, files: dict[str, str], folder: Path, *gates: str
) -> tuple[object, ...]:
    """Return what the same migrations create on a copy without any kill."""
    copy = site.database.copy(folder)
    try:
        twin = Project(folder / "twin", {"default": copy}, site.project.options)
        twin.add_migrations(files)
        for gate in gates:
            twin.open_gate(gate)
        twin.manage("migration_route", "apply", "--yes")
        return outcome(copy)
    finally:
        copy.drop()


@on_each_once
def test_d4_a_step_killed_midway_is_partial_and_is_resumed(build, pair, tmp_path):
    """Killed in the second of three operations: it reports which are present, nothing else
    starts, and resumed it reaches the outcome of an undisturbed run."""
    body = WRITE_THREE + 'pass_gate("middle")'
    files = {
        "0002_three": migration(ADD_SKU, IN_ITS_OWN, ADD_SIZE, body=body, atomic=False),
        "0003_more": column("colour", after="0002_three"),
    }
    site = build(pair, files, options=SHORT, serve=False)
    undisturbed = undisturbed_outcome(site, files, tmp_path, "middle")
    site.serve()
    ci = site.client("ci")
    run = killed_at(site, "middle")
    assert (run["state"], run["outcome"]) == ("partial", "partial")
    assert [step["state"] for step in run["steps"]] == ["partial", "not_started"]
    assert states(run) == ["present", "absent", "absent"]
    assert site.applied() == ["0001_initial"]
    expect_problem(ci.ask_for_run(ci.plan()), 409, "needs_resolution")
    path, body_ = f"runs/{run['id']}/resolve", {"reason": "x", "how": "continue"}
    expect_problem(ci.call("POST", path, json=body_), 403, "forbidden")
    refused = expect_problem(resolve(site, run, "applied"), 409, "refused")
    assert [found["state"] for found in refused["facts"]["operations"]] == states(run)
    expect_problem(resolve(site, run, "reverted"), 409, "refused")

    new = expect(resolve(site, run, "continue"), 200)
    assert new["id"] != run["id"]
    assert ci.wait_for_end(new["id"])["state"] == "succeeded"
    assert ci.get(f"runs/{run['id']}")["state"] == "resolved"
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_three", "0003_more"]
    assert ci.get("ledger/verify")["intact"]
    assert "resolved" in [entry["action"] for entry in ci.entries()]
    assert outcome(site.database) == undisturbed


@on_each_once
def test_a_step_killed_between_its_commit_and_its_record_is_partial(build, pair):
    """All of it is present, only the record is missing: resolved as applied."""
    text = migration(INDEXED).replace(
        "\n\ndef forwards", STOP_BEFORE_RECORDING + "\n\ndef forwards", 1
    )
    site = build(pair, {"0002_code": text}, options=SHORT)
    ci = site.client("ci")
    run = killed_at(site, "unrecorded")
    assert run["state"] == "partial"
    assert set(states(run)) == {"present"}
    assert site.applied() == ["0001_initial"]
    assert site.has_column("code")
    expect_problem(resolve(site, run, "reverted"), 409, "refused")
    found = expect(resolve(site, run, "applied"), 200)
    assert (found["state"], found["outcome"]) == ("resolved", "recorded_applied")
    assert site.applied() == ["0001_initial", "0002_code"]
    assert ci.plan()["direction"] == "none"
    assert ci.get("ledger/verify")["intact"]


@on_each_once
def test_d3_a_step_killed_in_its_transaction_left_nothing(build, pair):
    """`interrupted`, with every operation absent, and the next run succeeds; MariaDB
    reports which operation is present."""
    text = migration(ADD_SKU, IN_ITS_OWN, body=WRITE_THREE + 'pass_gate("middle")')
    site = build(pair, {"0002_two": text}, options=SHORT)
    run = killed_at(site, "middle")
    if site.database.transactional_ddl:
        assert (run["state"], run["outcome"]) == ("failed", "interrupted")
        assert states(run) == ["absent", "absent"]
    else:
        assert (run["state"], run["outcome"]) == ("partial", "partial")
        assert states(run) == ["present", "absent"]
        new = expect(resolve(site, run, "continue"), 200)
        assert site.client("ci").wait_for_end(new["id"])["state"] == "succeeded"
        assert site.names() == WRITTEN
        return
    assert not site.has_column("sku")
    assert site.client("ci").apply()["state"] == "succeeded"
    assert site.names() == WRITTEN


@on("mariadb-sync")
def test_d7_a_second_operation_that_fails_leaves_the_first(build, pair):
    """MariaDB has executed the first DDL: the plan had warned of it."""
    fails = 'migrations.RunSQL("INSERT INTO no_such_table VALUES (1)")'
    site = build(pair, {"0002_two": migration(ADD_SKU, fails)})
    ci = site.client("ci")
    plan = ci.plan()
    assert plan["transactional_ddl"] is False
    run = ci.apply()
    assert run["state"] == "partial"
    assert states(run) == ["present", "absent"]
    expect_problem(ci.ask_for_run(ci.plan()), 409, "needs_resolution")
    site.execute("CREATE TABLE no_such_table (id integer)")
    new = expect(resolve(site, run, "continue"), 200)
    assert ci.wait_for_end(new["id"])["state"] == "succeeded"
    assert site.rows("SELECT id FROM no_such_table") == [(1,)]
    assert site.has_column("sku")


CONCURRENT_INDEX = (
    'AddIndexConcurrently("item", models.Index(fields=["name"], name="item_by_name"))'
)
INDEX_THEN_SIZE = migration(CONCURRENT_INDEX, ADD_SIZE, atomic=False).replace(
    "\n\n\ndef",
    "\n\nfrom django.contrib.postgres.operations import AddIndexConcurrently\n\n\ndef",
    1,
)


def await_invalid_index(site):
    """Wait until the index exists, and is not ready."""
    until(
        lambda: site.rows(
            "SELECT 1 FROM pg_index JOIN pg_class ON oid = indexrelid "
            "WHERE relname = 'item_by_name' AND NOT indisvalid"
        ),
        seconds=40,
        what="the index is being built",
    )


@on("postgres-sync")
def test_a_cancelled_concurrent_build_is_not_called_clean(build, pair):
    """It leaves an invalid index: the run reports it, and how to recover."""
    site = build(pair, {"0002_index": INDEX_THEN_SIZE})
    boss = site.client("operator")
    with site.database.connect() as writer:
        writer.autocommit = False
        with writer.cursor() as cursor:
            cursor.execute("INSERT INTO shop_item (name) VALUES ('in the way')")
        run = boss.run(boss.plan())
        await_invalid_index(site)
        body = {"reason": "enough"}
        expect(boss.call("POST", f"runs/{run['id']}/cancel", json=body), 200)
        ended = boss.wait_for_end(run["id"], seconds=40)
        writer.rollback()
    assert ended["state"] == "partial"
    assert states(ended) == ["partial", "absent"]
    new = expect(resolve(site, ended, "continue"), 200)
    assert boss.wait_for_end(new["id"])["state"] == "succeeded"
    assert site.has_column("size")


@on("postgres-sync")
def test_l_an_index_left_invalid_is_dropped_and_built_on_resuming(build, pair):
    """CREATE INDEX CONCURRENTLY was interrupted: the catalog shows it, the resumed run
    repairs it."""
    site = build(pair, {"0002_index": INDEX_THEN_SIZE}, options=SHORT)
    ci = site.client("ci")
    with site.database.connect() as writer:
        writer.autocommit = False
        with writer.cursor() as cursor:
            cursor.execute("INSERT INTO shop_item (name) VALUES ('in the way')")
        before = processes.living_in(site.project.folder)
        run = ci.run(ci.plan())
        await_invalid_index(site)
        for pid in processes.living_in(site.project.folder) - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sessions = (
            "SELECT 1 FROM pg_stat_activity "
            f"WHERE application_name = 'migration-route:{run['id']}'"
        )
        until(lambda: not site.rows(sessions), seconds=40, what="its session has ended")
        writer.rollback()
    ended = ci.wait_for_end(run["id"], seconds=40)
    assert ended["state"] == "partial"
    assert states(ended) == ["partial", "absent"]
    new = expect(resolve(site, ended, "continue"), 200)
    assert ci.wait_for_end(new["id"])["state"] == "succeeded"
    valid = (
        "SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid "
        "WHERE relname = 'item_by_name'"
    )
    assert site.rows(valid) == [(True,)]
    assert site.has_column("size")
