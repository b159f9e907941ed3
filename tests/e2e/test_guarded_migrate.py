"""Tests that `manage.py migrate` shares the lock with runs. Scenarios C4 and a4."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.client import expect
from tests.harness.deadlines import until
from tests.harness.migrations import RUN, WRITE_THREE, WRITTEN, column, migration, running
from tests.harness.pairs import on, on_each_once
from tests.harness.processes import ends_with_its_parent
from tests.harness.project import Options

WRITE_AND_WAIT = running(WRITE_THREE + 'pass_gate("written")')
ROUNDS = {"sqlite": 3, "postgres": 10, "mariadb": 3}


def guarded(wait: str, **route) -> Options:
    """Return a project whose `manage.py migrate` waits that long for the lock."""
    return Options(migration_route={"GUARD_MIGRATE_TIMEOUT": wait, **route})


@contextlib.contextmanager
def typed(project, *arguments):
    """Start `manage.py migrate` and yield the process while it is running."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "migrate", *arguments],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ends_with_its_parent,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@on_each_once
def test_c4_a_typed_migrate_refuses_while_a_run_is_at_work(build, pair):
    """It names the run, says what to do, and applies nothing."""
    site = build(pair, {"0002_write": WRITE_AND_WAIT}, options=guarded("1s"))
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.project.await_gate("written")
    answer = site.project.manage("migrate", check=False)
    assert answer.returncode == 1
    assert run in answer.stderr
    assert "GUARD_MIGRATE" in answer.stderr
    site.project.open_gate("written")
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write"]
    refused = [entry for entry in ci.entries() if entry["action"] == "refused"]
    assert refused[-1]["facts"]["verb"] == "migrate"
    assert ci.get("ledger/verify")["intact"]


@on_each_once
def test_c4_a_typed_migrate_waits_for_a_run_and_does_the_rest(build, pair):
    """Migrations that the run has applied meanwhile are dropped, and the rest continues
    from there."""
    site = build(pair, {"0002_write": WRITE_AND_WAIT}, options=guarded("60s"))
    ci = site.client("ci")
    run = ci.run(ci.plan())["id"]
    site.project.await_gate("written")
    # The last step needs both the state and the row of the step before.
    site.project.add_migrations(
        {
            "0003_sku": column("sku", after="0002_write"),
            "0004_fill": running(
                'assert Item.objects.using(alias).update(sku="filled") == 3',
                after="0003_sku",
            ),
        }
    )
    with typed(site.project) as process:
        assert run in process.stderr.readline()
        site.project.open_gate("written")
        out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert ci.wait_for_end(run)["state"] == "succeeded"
    assert "shop.0002_write" not in out
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write", "0003_sku", "0004_fill"]
    assert {sku for (sku,) in site.rows("SELECT sku FROM shop_item")} == {"filled"}
    started, finished = lines_of_migrate(ci)
    assert started["facts"]["dropped"] == ["shop.0002_write"]
    assert started["facts"]["waited_ms"] > 0
    assert finished["facts"]["outcome"] == "finished"
    assert finished["facts"]["steps"] == [
        ["shop", "0003_sku", "applied"],
        ["shop", "0004_fill", "applied"],
    ]
    assert finished["actor"]["kind"] == "command"
    assert ci.get("ledger/verify")["intact"]


def lines_of_migrate(ci):
    """Return the entries of guarded migrates, oldest first."""
    return [e for e in ci.entries() if e["action"].startswith("migrate_")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@on_each_once
def test_a4_of_three_typed_at_once_on_an_empty_database_all_end_well(build, pair):
    """One applies everything, the others wait, find nothing left, and succeed."""
    site = build(pair, empty=("default",), options=guarded("120s"), serve=False)
    for round_ in range(ROUNDS[pair.vendor]):
        if round_:
            site.database.drop()
            site.database.create()
        answers = three_at_once(site.project)
        assert [answer.returncode for answer in answers] == [0, 0, 0], [
            answer.stderr for answer in answers
        ]
        applied = site.rows("SELECT app, name FROM django_migrations")
        assert len(applied) == len(set(applied))
        actions = site.rows("SELECT action FROM migration_route_entry ORDER BY sequence")
        assert ("migrate_finished",) in actions


def three_at_once(project):
    """Start `migrate` three times at once, and wait for all."""
    with ThreadPoolExecutor(3) as pool:
        return list(
            pool.map(
                lambda _: project.manage("migrate", check=False, timeout=150), range(3)
            )
        )


@on_each_once
def test_a_run_waits_for_a_typed_migrate_and_ends_truly(build, pair):
    """Requested meanwhile, it waits for the lock; then its plan has changed."""
    # Outside of a transaction: the ledger in the same SQLite file can be written.
    slow = migration(RUN, body=WRITE_THREE + 'pass_gate("written")', atomic=False)
    site = build(pair, {"0002_write": slow})
    site.project.manage("migrate", "migration_route")
    ci = site.client("ci")
    plan = ci.plan()
    with typed(site.project) as process:
        site.project.await_gate("written")
        run = ci.run(plan)["id"]
        waiting = until(
            lambda: (found := ci.get(f"runs/{run}"))["state"] == "waiting" and found,
            seconds=40,
            what="the run waits",
        )
        assert waiting["waiting"]["reason"] == "lock"
        site.project.open_gate("written")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert ci.wait_for_end(run)["state"] in ("stale", "noop")
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_write"]
    assert ci.get("ledger/verify")["intact"]


@on_each_once
def test_a_typed_migrate_that_fails_gives_the_lock_back_and_says_so(build, pair):
    """In one long-lived process: the failure is on the ledger, and the next one may
    start."""
    site = build(
        pair,
        {
            "0002_sku": column("sku"),
            "0003_fails": running(
                'raise ValueError("no, password=hunter2")', after="0002_sku"
            ),
        },
    )
    site.project.manage("migrate", "migration_route")
    printed = site.project.python(
        "from django.core.management import call_command\n"
        "for target in ('0003', '0002', '0001'):\n"
        "    try:\n"
        "        call_command('migrate', 'shop', target, verbosity=0)\n"
        "        print(target, 'done')\n"
        "    except ValueError:\n"
        "        print(target, 'failed')\n"
        "from migration_route.conf.databases import private_connection\n"
        "from migration_route.vendors import vendor_of\n"
        "from migration_route.vendors.base import LockSlot\n"
        "connection = private_connection('default')\n"
        "lock = vendor_of('default').lock(connection, LockSlot.SUPERVISOR)\n"
        "print(lock.try_acquire())\n"
        "from django.db.migrations.executor import MigrationExecutor\n"
        "print(MigrationExecutor.migrate.__module__)\n"
    )
    assert printed.splitlines() == [
        "0003 failed",
        "0002 done",
        "0001 done",
        "True",
        "django.db.migrations.executor",
    ]
    lines = [line["facts"] for line in lines_of_migrate(site.client("ci"))]
    endings = [facts for facts in lines if "outcome" in facts]
    failed, back = endings[-2], endings[-1]
    assert failed["outcome"] == "failed"
    assert failed["steps"] == [
        ["shop", "0002_sku", "applied"],
        ["shop", "0003_fails", "not_recorded"],
    ]
    assert failed["error"]["type"] == "ValueError"
    assert "hunter2" not in str(lines)
    assert back["steps"] == [["shop", "0002_sku", "reverted"]]


@on_each_once
def test_faking_going_back_and_looking_are_guarded_as_they_should_be(build, pair):
    """`--fake` and `zero` take the lock and are recorded; `--plan` and `--check` are
    not."""
    site = build(pair, {"0002_sku": column("sku")})
    manage = site.project.manage
    manage("migrate", "migration_route")
    ci = site.client("ci")
    before = len(ci.entries())
    assert manage("migrate", "--check", check=False).returncode == 1
    assert "0002_sku" in manage("migrate", "--plan").stdout
    manage("migrate", "auth")
    assert len(ci.entries()) == before
    manage("migrate", "--fake")
    manage("migrate", "shop", "0001", "--fake")
    manage("migrate")
    manage("migrate", "shop", "0001")
    endings = [
        e["facts"] for e in ci.entries()[before:] if e["action"] == "migrate_finished"
    ]
    assert [facts["mode"] for facts in endings] == ["fake", "fake", "apply", "apply"]
    assert [facts["steps"][0][2] for facts in endings] == [
        "applied",
        "reverted",
        "applied",
        "reverted",
    ]
    assert all(facts["lock_held"] for facts in endings)


@on_each_once
def test_the_guard_can_be_put_away(build, pair):
    """With GUARD_MIGRATE = False nothing waits, and nothing is recorded."""
    site = build(
        pair, {"0002_write": WRITE_AND_WAIT}, options=guarded("60s", GUARD_MIGRATE=False)
    )
    site.project.manage("migrate", "migration_route")
    assert lines_of_migrate(site.client("ci")) == []


@on_each_once
def test_the_ledger_elsewhere_is_told_as_well(build, pair):
    """The lock is that of the migrated database, the entries go to the ledger's
    database."""
    site = build(
        pair,
        {"0002_sku": column("sku")},
        others=("book",),
        options=guarded("10s", LEDGER_DATABASE="book"),
    )
    site.project.manage("migrate", "--database", "book")
    site.project.manage("migrate")
    ci = site.client("ci")
    assert [line["database"] for line in lines_of_migrate(ci)] == [
        "book",
        "default",
        "default",
    ]
    assert ci.get("ledger/verify")["intact"]


@on("postgres-sync")
def test_typed_on_an_empty_database_its_own_tables_come_with_it(build, pair):
    """The first migrate of all creates the ledger's tables under its own lock."""
    site = build(pair, empty=("default",))
    site.project.manage("migrate")
    (line,) = lines_of_migrate(site.client("ci"))
    assert ["migration_route", "0001_initial", "applied"] in line["facts"]["steps"]
    assert expect(site.client("ci").call("GET", "ready"), 200)


@on("mariadb-uvicorn")
def test_after_a_run_that_stopped_midway_a_typed_migrate_warns(build, pair):
    """It may be the repair: it is not refused, and the message names the run."""
    half = migration(
        'migrations.AddField("item", "sku", models.CharField(max_length=9, default=""))',
        RUN,
        body='if not os.environ.get("REPAIRED"):\n    raise ValueError("midway")',
    )
    site = build(pair, {"0002_half": half})
    ci = site.client("ci")
    run = ci.apply()
    assert run["state"] == "partial"
    site.execute("ALTER TABLE shop_item DROP COLUMN sku")
    site.project.environment["REPAIRED"] = "yes"
    answer = site.project.manage("migrate")
    assert run["id"] in answer.stderr
    assert site.applied() == ["0001_initial", "0002_half"]
    started, finished = lines_of_migrate(ci)
    assert started["facts"]["unresolved"] == run["id"]
    assert finished["facts"]["outcome"] == "finished"


@on("postgres-sync", "mariadb-uvicorn")
def test_a_typed_migrate_that_is_killed_blocks_no_run(build, pair):
    """Its lock ends with its session, and a start without an end records what happened."""
    site = build(pair, {"0002_write": WRITE_AND_WAIT})
    site.project.manage("migrate", "migration_route")
    with typed(site.project) as process:
        site.project.await_gate("written")
        process.kill()
    site.project.open_gate("written")
    ci = site.client("ci")
    assert ci.apply()["state"] == "succeeded"
    assert site.applied() == ["0001_initial", "0002_write"]
    assert [line["action"] for line in lines_of_migrate(ci)][-1] == "migrate_started"
