"""Tests that a rehearsal on the database itself leaves no trace, whatever the migrations do
(E5, row s)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time

import pytest

from tests.e2e.test_rehearsal import (
    begin,
    copies,
    installed,
    kill,
    processes_of,
    rehearse,
    state_of,
    statements,
    wait,
    wait_for_start,
)
from tests.harness.client import expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import ADD_SKU, RUN, WRITE_THREE, column, migration, running
from tests.harness.pairs import on
from tests.harness.project import Options

POSTGRES = on("postgres-gthread")
NO_ROOM = 'migrations.RunSQL("SELECT pg_sleep(30)")'


def site_of(build, pair, limit="20s"):
    """Build a site with timeouts for a machine under load."""
    words = {"DATABASES": {"default": {"in_place_timeout": limit}}}
    return build(pair, options=Options(migration_route=words))


def kept(site):
    """Return what must not change; sequences do, which is reported."""
    found = state_of(site)
    found.pop("sequences", None)
    return found, copies(site)


def sessions(site):
    """Return the workers' sessions in this database."""
    return site.rows(
        "SELECT application_name, state FROM pg_stat_activity WHERE "
        "datname = current_database() AND application_name LIKE 'migration-route:%'"
    )


def codes(found):
    """Return the codes of what could not be rehearsed."""
    return [limit["code"] for limit in found["report"]["limits"]]


@POSTGRES
def test_a_rehearsal_in_place_shows_a_plan_and_leaves_no_trace(build, pair):
    """Schema, rows, recorder and the list of databases are unchanged; its result is bound
    to the plan, which can then be applied."""
    site = site_of(build, pair)
    installed(site)
    boss = site.person("boss")
    link = 'migrations.AddField("item", "twin", models.ForeignKey("shop.Item", '
    link += "models.CASCADE, null=True))"
    retype = 'migrations.AlterField("item", "name", models.TextField(db_index=True))'
    index = 'migrations.RunSQL("CREATE INDEX by_name ON shop_item (name)")'
    site.project.add_migrations(
        {
            "0002_link": migration(ADD_SKU, link),
            "0003_fill": running(WRITE_THREE, after="0002_link"),
            # Deferred work of the step before, left to the commit, would block this.
            "0004_more": migration(retype, index, after="0003_fill"),
        }
    )
    before = kept(site)
    plan = boss.plan("shop")
    found = rehearse(boss, plan, in_place=True)
    assert found["state"] == "succeeded", found
    assert found["in_place"]
    assert (found["kind"], found["round_trip"]) == ("data", False)
    assert found["fingerprint"] == plan["fingerprint"]
    assert kept(site) == before
    assert sessions(site) == []
    steps = found["report"]["steps"]
    assert [step["state"] for step in steps] == ["applied"] * 3
    (lock,) = statements(steps[0])[0]["locks"]
    assert (lock["table"], lock["mode"]) == ("shop_item", "AccessExclusiveLock")
    assert found["longest_lock"]["table"] == "shop_item"
    assert steps[1]["operations"][0]["queries"] == 3
    assert {"after_the_commit", "one_transaction", "sequences", "ran_python"} <= set(
        codes(found)
    )
    entries = {entry["action"]: entry["facts"] for entry in boss.entries()}
    assert entries["rehearsal_requested"]["in_place"]
    assert entries["rehearsal_ended"]["in_place"]
    assert boss.get("ledger/verify")["intact"]
    plan = boss.plan("shop")
    assert plan["rehearsed"]["in_place"]
    assert "in place" in plan["rehearsed"]["summary"]
    site.client("operator").apply()
    assert site.applied()[-1] == "0004_more"


DRIVER = "connections[alias].connection"
SQL = "migrations.RunSQL(\"SELECT 'C:\\\\'; COMMIT; CREATE TABLE left_over (id int)\")"
COMMITS = {
    "sql": (SQL, ""),
    "bytes": (RUN, "schema_editor.connection.cursor().execute(b'COMMIT')"),
    "the driver": (RUN, f"{DRIVER}.commit()"),
    "the driver's cursor": (RUN, f"{DRIVER}.execute('END')"),
    "swallowed": (RUN, f"try:\n    {DRIVER}.commit()\nexcept BaseException:\n    pass"),
    "past everything": (RUN, f"{DRIVER}.pgconn.exec_(b'COMMIT')"),
    "rolled back": (RUN, f"{DRIVER}.pgconn.exec_(b'ROLLBACK')"),
    "closed": (RUN, "connections[alias].close()"),
}


@POSTGRES
def test_nothing_commits_a_rehearsal(build, pair):
    """However it is attempted: refused before it is sent, or by the server; the rehearsal
    fails because of it, and nothing is in the database."""
    site = site_of(build, pair)
    installed(site)
    boss = site.person("boss")
    before = kept(site)
    for name, (operation, body) in COMMITS.items():
        body = f"from django.db import connections\nItem.objects.create(name='x')\n{body}"
        operations = dict.fromkeys((RUN, operation))
        site.project.add_migrations({"0002_commits": migration(*operations, body=body)})
        found = rehearse(boss, boss.plan("shop"), in_place=True)
        assert found["state"] == "failed", name
        (step,) = found["report"]["steps"]
        seen = (step["state"], step["error"]["type"])
        assert seen == ("failed", "TransactionEscape"), (name, found)
        assert kept(site) == before, name
        assert sessions(site) == [], name


TRIED = """
import threading
import psycopg
from django.db import connections, transaction

def durable():
    with transaction.atomic(using=alias, durable=True):
        pass

def in_a_thread():
    def work():
        attempt(connections[alias].ensure_connection)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

def attempt(what):
    try:
        what()
    except Exception as error:
        print("tried:", type(error).__name__)

name = connections[alias].settings_dict["NAME"]
for what in (
    connections[alias].commit,
    lambda: connections[alias].set_autocommit(True),
    durable,
    connections[alias].connect,
    connections[alias].copy().ensure_connection,
    connections["another"].ensure_connection,
    lambda: psycopg.connect(dbname=name),
    in_a_thread,
):
    attempt(what)
"""


@POSTGRES
def test_what_is_refused_anyway_reaches_nothing(build, pair):
    """Django's own refusals inside of a transaction, and every other connection: a
    migration that handles the error continues, and its attempt is reported."""
    words = {"DATABASES": {"default": {"in_place_timeout": "20s"}}}
    site = build(pair, others=("another",), options=Options(migration_route=words))
    installed(site)
    boss = site.person("boss")
    site.project.add_migrations({"0002_tries": running(TRIED)})
    before = kept(site)
    found = rehearse(boss, boss.plan("shop"), in_place=True)
    assert found["state"] == "succeeded", found["error"]
    tried = [line for line in found["report"]["output"] if line.startswith("tried:")]
    refused = ["TransactionManagementError", "TransactionManagementError", "RuntimeError"]
    outside = ["ConnectionRefused"] * 5
    assert tried == [f"tried: {kind}" for kind in (*refused, *outside)]
    assert codes(found).count("denied") == 3  # here, elsewhere, outside of Django
    assert kept(site) == before


@POSTGRES
def test_the_server_refuses_a_commit_by_itself(build, pair):
    """Even where nothing on this side checks: rows written then are not stored, nor can a
    second transaction of the same session write."""
    site = site_of(build, pair)
    installed(site)
    boss = site.person("boss")
    before = kept(site)
    body = """
    from django.db import connections
    raw = connections[alias].connection.pgconn
    answer = raw.exec_(b"CREATE TABLE left_over (id int); COMMIT")
    print("commit:", answer.error_message.decode())
    answer = raw.exec_(b"BEGIN; CREATE TABLE left_over (id int); COMMIT")
    print("again:", answer.error_message.decode())
    """
    site.project.add_migrations({"0002_raw": running(body)})
    found = rehearse(boss, boss.plan("shop"), in_place=True)
    printed = " ".join(found["report"]["output"])
    assert "commit: ERROR:  unsupported ON COMMIT and foreign key" in printed, found
    assert "again: ERROR:  cannot execute CREATE TABLE in a read-only" in printed, found
    assert found["state"] == "failed"
    assert kept(site) == before


@POSTGRES
def test_what_waits_for_the_commit_of_a_step_fails_there(build, pair):
    """A foreign key violation is attributed to the step that wrote it."""
    site = site_of(build, pair)
    installed(site)
    boss = site.person("boss")
    link = 'migrations.AddField("item", "twin", models.ForeignKey("shop.Item", '
    link += "models.CASCADE, null=True))"
    body = "Item.objects.using(alias).update(twin_id=4711)"
    later = "from django.db import transaction\n"
    later += "transaction.on_commit(lambda: print('it ran'), using=alias)"
    site.project.add_migrations(
        {
            "0002_link": migration(link),
            "0003_wrong": running(body, after="0002_link"),
            "0004_later": running("pass", after="0003_wrong"),
        }
    )
    before = kept(site)
    found = rehearse(boss, boss.plan("shop"), in_place=True)
    states = [step["state"] for step in found["report"]["steps"]]
    assert states == ["applied", "failed", "not_started"], found
    assert found["error"]["type"] == "IntegrityError"
    site.project.add_migrations({"0003_wrong": running(later, after="0002_link")})
    found = rehearse(boss, boss.plan("shop"), in_place=True)
    assert found["state"] == "succeeded", found["error"]
    assert "on_commit" in codes(found)
    assert "it ran" not in found["report"]["output"]
    assert kept(site) == before


@POSTGRES
def test_a_step_that_is_not_atomic_is_told_as_not_rehearsed(build, pair):
    """So is what comes after it; where it is the first one, nothing starts."""
    site = site_of(build, pair)
    installed(site)
    boss = site.person("boss")
    index = 'migrations.RunSQL("CREATE INDEX CONCURRENTLY by_name ON shop_item (name)")'
    site.project.add_migrations(
        {
            "0002_sku": column("sku"),
            "0003_index": migration(index, after="0002_sku", atomic=False),
            "0004_more": column("more", after="0003_index"),
        }
    )
    before = kept(site)
    found = rehearse(boss, boss.plan("shop"), in_place=True)
    assert found["state"] == "succeeded", found["error"]
    states = [step["state"] for step in found["report"]["steps"]]
    assert states == ["applied", "not_started", "not_started"]
    told = {limit["code"]: limit for limit in found["report"]["limits"]}
    assert told["not_atomic"]["step"] == "shop.0003_index"
    assert "depend on it: 1." in told["after_not_atomic"]["message"]
    assert "only 1 of 3 steps" in boss.plan("shop")["rehearsed"]["summary"]
    assert kept(site) == before
    site.project.add_migrations({"0002_sku": migration(ADD_SKU, atomic=False)})
    problem = expect_problem(ask(boss, boss.plan("shop")), 409, "cannot_rehearse")
    assert "not atomic" in problem["detail"]


def ask(client, plan, **more):
    """POST a rehearsal in place, and return any response."""
    body = {key: plan[key] for key in ("database", "targets", "fingerprint")}
    return client.call("POST", "rehearsals", json={**body, "in_place": True, **more})


@on("sqlite-gthread", "postgres-gthread", "mariadb-gthread")
def test_what_is_refused_is_told_before_anything_begins(build, pair):
    """Machine tokens, databases that cannot roll it back, backwards plans."""
    site = build(pair, {"0002_sku": column("sku")})
    operator, boss = installed_first(site)
    plan = boss.plan("shop")
    problem = expect_problem(ask(operator, plan), 403, "forbidden")
    assert "'force'" in problem["detail"]
    expect_problem(ask(site.person("helper"), plan), 403, "forbidden")
    if pair.vendor != "postgres":
        problem = expect_problem(ask(boss, plan), 409, "cannot_rehearse")
        assert "in place" in problem["detail"]
        assert "copy" in problem["hint"]
        command = ("migration_route", "rehearse", "shop", "--in-place")
        assert site.project.manage(*command, check=False).returncode == 5
        return
    problem = expect_problem(ask(boss, plan, round_trip=True), 409, "cannot_rehearse")
    assert "cannot migrate back" in problem["detail"]
    assert boss.get("rehearsals")["rehearsals"] == []


def installed_first(site):
    """Install the ledger first by a run that applies nothing."""
    return site.client("operator"), site.person("boss")


@POSTGRES
def test_no_run_goes_on_at_the_same_time(build, pair):
    """During a run nothing is rehearsed in place; during a rehearsal, a run and `manage.py
    migrate` wait."""
    site = site_of(build, pair)
    operator = installed(site)
    boss = site.person("boss")
    site.project.add_migrations({"0002_wait": running("pass_gate('run')")})
    run = operator.run(operator.plan("shop"))
    site.project.await_gate("run")
    plan = boss.plan("shop")
    expect_problem(ask(boss, plan), 409, "active_run")
    site.project.open_gate("run")
    operator.wait_for_end(run["id"])
    site.project.add_migrations(
        {"0003_wait": running("pass_gate('rehearsal')", after="0002_wait")}
    )
    plan = boss.plan("shop")
    rehearsal = begin(boss, plan, in_place=True)
    site.project.await_gate("rehearsal")
    run = operator.run(plan)
    until(
        lambda: operator.get(f"runs/{run['id']}")["state"] == "waiting",
        seconds=30,
        what="the run waits for the rehearsal",
    )
    assert site.applied() == ["0001_initial", "0002_wait"]
    site.project.open_gate("rehearsal")
    assert wait(boss, rehearsal)["state"] == "succeeded"
    assert operator.wait_for_end(run["id"])["state"] == "succeeded"
    site.project.add_migrations({"0004_sku": column("sku", after="0003_wait")})
    with site.database.connect() as holder:  # as `manage.py migrate` does
        cursor = holder.cursor()
        cursor.execute(
            "SELECT pg_advisory_lock(classid::int, (objid::bigint - 4294967296 * "
            "(objid::bigint >> 31))::int) FROM (SELECT 1836216181 AS classid, "
            "%s::bigint AS objid) AS key",
            [_key()],
        )
        expect_problem(ask(boss, boss.plan("shop")), 409, "active_run")


def _key():
    from zlib import crc32

    return (crc32(b"public") - 2**31) % 2**32


class Reader:
    """A session that reads a table repeatedly, and measures its waits."""

    def __init__(self, site):
        self._site = site
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.longest = 0.0
        self.count = 0

    def _read(self):
        with self._site.database.connect() as connection:
            while not self._ended.is_set():
                start = time.monotonic()
                cursor = connection.cursor()
                cursor.execute("SELECT name FROM shop_item LIMIT 1")
                cursor.fetchall()
                self.longest = max(self.longest, time.monotonic() - start)
                self.count += 1
                time.sleep(0.01)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        waited = f"{self.longest * 1000:.0f} ms at most, {self.count} times"
        print(f"read: {waited}")  # noqa: T201 - pytest shows it when the test fails


@POSTGRES
def test_a_reader_waits_no_longer_than_the_bound(build, pair):
    """In the queue behind a statement that waits: a tenth of a second, once. Behind held
    locks: until the limit, whatever the migration is doing."""
    site = site_of(build, pair, limit="1s")
    installed(site)
    boss = site.person("boss")
    site.project.add_migrations({"0002_sku": column("sku")})
    before = kept(site)
    with site.database.connect() as slow:
        cursor = slow.cursor()
        cursor.execute("BEGIN; SELECT count(*) FROM shop_item")
        with Reader(site) as reader:
            found = rehearse(boss, boss.plan("shop"), in_place=True)
    assert found["error"]["type"] == "LockUnavailable", found
    assert "100 ms" in found["error"]["message"]
    assert reader.longest < 0.4, f"a reader waited for {reader.longest:.2f} s"
    sleeping = {
        "statement": migration(ADD_SKU, NO_ROOM),
        "python": migration(ADD_SKU, RUN, body="time.sleep(30)"),
        "many": migration(
            ADD_SKU,
            RUN,
            body="while True:\n"
            "    schema_editor.connection.cursor().execute('SELECT pg_sleep(0.05)')",
        ),
        "stubborn": migration(
            ADD_SKU,
            RUN,
            body="while True:\n    try:\n"
            "        schema_editor.connection.cursor().execute('SELECT pg_sleep(0.05)')\n"
            "    except BaseException:\n        pass",
        ),
    }
    for name, text in sleeping.items():
        site.project.add_migrations({"0002_sku": text})
        with Reader(site) as reader:
            found = rehearse(boss, boss.plan("shop"), in_place=True)
        assert found["error"]["type"] == "InPlaceTimeout", (name, found)
        assert "in_place_timeout" in found["error"]["message"]
        assert 0.5 < reader.longest < 2.5, f"{name}: for {reader.longest:.2f} s"
        assert kept(site) == before
        assert sessions(site) == []


@POSTGRES
@pytest.mark.parametrize("instant", ["at once", "python", "statement"])
@pytest.mark.parametrize("victims", ["all", "conductor", "worker"])
def test_a_killed_rehearsal_leaves_nothing(build, pair, instant, victims):
    """When it is killed at any instant, the server rolls back, and the session ends."""
    site = site_of(build, pair)
    operator = installed(site)
    boss = site.person("boss")
    waits = NO_ROOM if instant == "statement" else RUN
    body = "pass" if instant == "statement" else "pass_gate('here')"
    text = migration(ADD_SKU, waits, body=body)
    site.project.add_migrations({"0002_wait": text})
    before = kept(site)
    rehearsal = begin(boss, boss.plan("shop"), in_place=True)
    if instant == "at once":
        wait_for_start(boss, rehearsal)
    elif instant == "python":
        site.project.await_gate("here")
    else:
        asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%' "
        asleep += "AND state = 'active' AND datname = current_database()"
        until(lambda: site.rows(asleep), seconds=40, what="it sleeps", every=0.01)
    if victims == "all":
        kill(rehearsal)
    else:
        end_one(rehearsal, worker=victims == "worker")
    found = wait(boss, rehearsal, seconds=45)
    assert found["state"] == "failed"
    assert found["error"]["type"] in {"Interrupted", "ProcessDied"}, found
    until(lambda: not sessions(site), seconds=10, what="its session goes")
    assert kept(site) == before
    site.project.add_migrations({"0002_wait": column("sku")})
    assert rehearse(boss, boss.plan("shop"), in_place=True)["state"] == "succeeded"
    assert kept(site) == before
    assert operator.apply()["state"] == "succeeded"


def end_one(rehearsal, *, worker):
    """Kill the controlling process, or its child that migrates."""
    found = processes_of(rehearsal)
    assert found
    child = max(found) if len(found) > 1 else found[0]
    with contextlib.suppress(ProcessLookupError):
        os.kill(child if worker else min(found), signal.SIGKILL)


@POSTGRES
def test_the_command_rehearses_in_place(build, pair):
    """Locally, with every right: as JSON, and as lines."""
    site = site_of(build, pair)
    installed(site)
    site.project.add_migrations({"0002_sku": column("sku")})
    before = kept(site)
    command = ("migration_route", "rehearse", "shop", "--in-place")
    found = json.loads(site.project.manage(*command, "--json").stdout)
    assert (found["state"], found["in_place"]) == ("succeeded", True)
    told = site.project.manage(*command).stdout
    assert "in place, rolled back, on default: succeeded" in told
    assert "AccessExclusiveLock on shop_item" in told
    assert kept(site) == before


@POSTGRES
def test_an_empty_database_is_rehearsed_in_place(build, pair):
    """With every app of the project, the recorder's table included."""
    words = {"DATABASES": {"default": {"in_place_timeout": "60s"}}}
    site = build(pair, empty=("default",), options=Options(migration_route=words))
    command = ("migration_route", "rehearse", "--in-place", "--json")
    found = json.loads(site.project.manage(*command).stdout)
    assert found["state"] == "succeeded", found
    assert {step["state"] for step in found["report"]["steps"]} == {"applied"}
    assert site.database.tables() <= {
        "django_migrations",
        *(name for name in site.database.tables() if name.startswith("migration_route")),
    }
