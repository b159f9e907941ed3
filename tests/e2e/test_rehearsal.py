"""Tests that a rehearsal shows what a plan does and changes nothing (E5, row s)."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.harness.client import API, expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import ADD_SKU, column, migration, running
from tests.harness.pairs import on
from tests.harness.project import Options

EACH = on("sqlite-gthread", "postgres-uvicorn", "mariadb-sync")
COPY = "migration_route_rehearsal_"


def rehearse(client, plan, **more):
    """Start a rehearsal of a plan, and return it when it has ended."""
    body = {"database": plan["database"], "targets": plan["targets"], **more}
    body = {"fingerprint": plan["fingerprint"], "reason": "a walk", **body}
    answer = client.call("POST", "rehearsals", json=body)
    found = expect(answer, 202)
    assert answer.headers["Location"].endswith(f"{API}rehearsals/{found['id']}")
    return wait(client, found["id"])


def begin(client, plan, **more):
    """Start a rehearsal, and return its id."""
    body = {key: plan[key] for key in ("database", "targets", "fingerprint")}
    answer = client.call("POST", "rehearsals", json={**body, **more})
    return expect(answer, 202)["id"]


def kill(rehearsal):
    """Kill every process of a rehearsal, as the out-of-memory killer does."""
    found = processes_of(rehearsal)
    assert found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def has_ended(rehearsal):
    """Return whether no process of a rehearsal is left."""
    return not processes_of(rehearsal)


def processes_of(rehearsal):
    """Return the pids of its processes, and no others. A server's process title contains
    the name of a database, and must not be matched."""
    # Between NUL bytes: neither the title of a server nor a longer argument matches.
    wanted = b"\0migration_route\0run-rehearsal\0" + rehearsal.encode() + b"\0"
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def wait(client, rehearsal, *, seconds=60):
    """Poll a rehearsal until it has ended."""

    def ended():
        found = client.get(f"rehearsals/{rehearsal}")
        return found if found["ended"] else None

    return until(ended, seconds=seconds, what="the rehearsal ends")


def wait_for_start(client, rehearsal):
    """Poll a rehearsal until its process has taken it."""
    until(
        lambda: client.get(f"rehearsals/{rehearsal}")["state"] != "queued",
        seconds=30,
        what="the rehearsal starts",
        every=0.02,
    )


def copies(site):
    """List the databases of this site's rehearsals that are on the server, which other
    tests share, or beside the file."""
    database = site.database
    match database.vendor:
        case "sqlite":
            return {path.name for path in database.path.parent.glob(f"{COPY}*")}
        case "postgres":
            rows = database.rows("SELECT datname FROM pg_database")
        case _:
            rows = database.rows("SELECT schema_name FROM information_schema.schemata")
    if "migration_route_rehearsal" not in database.tables():
        return set()
    on_record = database.rows("SELECT id FROM migration_route_rehearsal")
    return {name for (name,) in rows} & {f"{COPY}{one}" for (one,) in on_record}


def state_of(site):
    """Return what a rehearsal must not change: schema, rows, sequences, recorder."""
    database = site.database
    ours = {"migration_route_rehearsal", "migration_route_entry"}
    found = {
        table: (sorted(database.columns(table)), database.rows(f"SELECT * FROM {table}"))
        for table in sorted(database.tables() - ours)
        if table != "django_session"
    }
    if database.vendor == "postgres":
        found["sequences"] = database.rows(
            "SELECT sequencename, last_value FROM pg_sequences "
            "WHERE sequencename NOT LIKE 'migration_route%' ORDER BY 1"
        )
    return found


def installed(site):
    """Install the ledger first, so that the comparison includes everything that comes
    later."""
    site.execute("INSERT INTO shop_item (name) VALUES ('apple'), ('pear')")
    operator = site.client("operator")
    operator.apply()
    return operator


def statements(step):
    """Return all statements of a step."""
    return [found for operation in step["operations"] for found in operation["statements"]]


@EACH
@pytest.mark.parametrize("kind", ["schema", "data"])
def test_a_rehearsal_shows_a_plan_and_leaves_everything_as_it_was(build, pair, kind):
    """Steps, rows, Python's queries and locks are reported; the database is unchanged."""
    site = build(pair)
    operator = installed(site)
    body = """
    for item in Item.objects.using(alias).all():
        item.sku = item.name.upper()
        item.save(using=alias)
    """
    site.project.add_migrations(
        {
            "0002_sku": column("sku"),
            "0003_fill": running(body, after="0002_sku"),
        }
    )
    before = state_of(site)
    plan = operator.plan("shop")
    found = rehearse(operator, plan, kind=kind)
    assert found["state"] == "succeeded", found
    assert found["fingerprint"] == plan["fingerprint"]
    assert state_of(site) == before
    assert copies(site) == set()
    steps = found["report"]["steps"]
    assert [step["state"] for step in steps] == ["applied", "applied"]
    assert [step["sql_differences"] for step in steps] == [[], []]
    python = steps[1]["operations"][0]
    assert python["runs_python"]
    assert python["queries"] == (3 if kind == "data" else 1)
    assert {limit["code"] for limit in found["report"]["limits"]} >= {
        "nobody_else",
        "ran_python",
        *({"schema_only"} if kind == "schema" else ()),
    }
    if pair.vendor == "postgres":
        (alter,) = [s for s in statements(steps[0]) if s["sql"].startswith("ALTER")][:1]
        assert [(lock["table"], lock["mode"]) for lock in alter["locks"]] == [
            ("shop_item", "AccessExclusiveLock")
        ]
        assert found["longest_lock"]["table"] == "shop_item"
    entries = [entry["action"] for entry in operator.entries()]
    assert "rehearsal_requested" in entries
    assert "rehearsal_ended" in entries
    assert operator.get("ledger/verify")["intact"]
    estimates = [step["estimate"] for step in operator.plan("shop")["steps"]]
    if kind == "schema":  # a copy without rows takes no time
        assert estimates == [None, None]
    else:
        assert [one["rehearsal"] for one in estimates] == [found["id"]] * 2
        assert [one["ms"] for one in estimates] == [step["duration_ms"] for step in steps]
    operator.apply()  # the rehearsed plan is still the current plan
    assert site.applied() == ["0001_initial", "0002_sku", "0003_fill"]


HIDES = """

class Hides(migrations.operations.base.Operation):
    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, editor, before, after):
        if not editor.collect_sql:
            editor.execute("UPDATE shop_item SET name = 'secret'")

    def describe(self):
        return "Hide"


class Migration("""


@EACH
def test_statements_that_the_plan_does_not_show_are_a_finding(build, pair):
    """The operation sends another statement when it runs than when SQL is collected."""
    site = build(pair)
    operator = installed(site)
    source = migration("Hides()", ADD_SKU).replace("\n\nclass Migration(", HIDES, 1)
    site.project.add_migrations({"0002_hides": source})
    plan = operator.plan("shop")
    assert "sql_differs" not in [finding["code"] for finding in plan["findings"]]
    found = rehearse(operator, plan)
    assert found["state"] == "succeeded", found
    (step,) = found["report"]["steps"]
    (line,) = step["sql_differences"]
    assert line.startswith("sent, not planned: UPDATE shop_item SET name = ?")
    (finding,) = [
        one for one in operator.plan("shop")["findings"] if one["code"] == "sql_differs"
    ]
    assert finding["step"] == "shop.0002_hides"
    page = site.person("boss").http.get(f"/_m/rehearsals/{found['id']}/").text
    assert "The SQL differs from the plan." in page
    assert site.rows("SELECT count(*) FROM shop_item WHERE name = 'secret'") == [(0,)]


@EACH
def test_a_failing_migration_says_where_and_why(build, pair):
    """What fails because of the rows fails on a copy with data, and nowhere else."""
    site = build(pair)
    operator = installed(site)
    site.execute("INSERT INTO shop_item (name) VALUES ('apple')")
    field = "models.CharField(max_length=100, unique=True)"
    unique = f'migrations.AlterField("item", "name", {field})'
    site.project.add_migrations({"0002_unique": migration(ADD_SKU, unique)})
    before = state_of(site)
    plan = operator.plan("shop")
    found = rehearse(operator, plan, kind="data")
    assert found["state"] == "failed"
    (step,) = found["report"]["steps"]
    assert step["state"] == "failed"
    assert step["error"]["operation"] == 1
    assert "Integrity" in found["error"]["type"] + found["error"]["message"]
    assert rehearse(operator, plan, kind="schema")["state"] == "succeeded"
    assert state_of(site) == before
    assert copies(site) == set()


@EACH
def test_a_migration_cannot_leave_the_copy(build, pair):
    """Neither another alias nor a connection outside of Django reaches the live
    database."""
    site = build(pair, others=("another",))
    operator = installed(site)
    raw = {
        "sqlite": """
        import sqlite3
        from django.conf import settings
        with sqlite3.connect(settings.DATABASES[alias]["NAME"]) as raw:
            raw.execute("SELECT 1")
        from django.db import connections
        assert "rehearsal" in str(connections["default"].settings_dict["NAME"])
        """,
        "postgres": """
        import psycopg
        from django.db import connections
        words = connections["default"].get_connection_params()
        words = {key: words[key] for key in ("dbname", "user", "host", "port")}
        with psycopg.connect(**words) as raw:
            raw.execute("INSERT INTO shop_item (name) VALUES ('raw')")
        """,
        "mariadb": """
        from django.db import connections
        words = connections["default"].get_connection_params()
        import pymysql
        words = {key: words[key] for key in ("database", "user", "host", "port")}
        raw = pymysql.connect(**words)
        with raw.cursor() as cursor:
            cursor.execute("INSERT INTO shop_item (name) VALUES ('raw')")
        raw.commit()
        """,
    }[pair.vendor]
    site.project.add_migrations({"0002_raw": running(raw)})
    before = state_of(site)
    found = rehearse(operator, operator.plan("shop"), kind="data")
    assert found["state"] == "succeeded", found["error"]
    assert state_of(site) == before
    words = site.database.settings()
    driver, key = {
        "sqlite": ("sqlite3", "database"),
        "postgres": ("psycopg", "dbname"),
        "mariadb": ("pymysql", "database"),
    }[pair.vendor]
    where = {
        "host": words.get("HOST"),
        "port": words.get("PORT"),
        "user": words.get("USER"),
    }
    where = {**(where if pair.vendor != "sqlite" else {}), key: words["NAME"]}
    past = f"""
    import {driver}
    {driver}.connect(**{where!r})
    """
    site.project.add_migrations({"0002_raw": running(past)})
    found = rehearse(operator, operator.plan("shop"))
    assert found["error"]["type"] == "SandboxViolation", found["error"]
    other = """
    from django.db import connections
    with connections["another"].cursor() as cursor:
        cursor.execute("CREATE TABLE written (id integer)")
    """
    site.project.add_migrations({"0002_raw": running(other)})
    found = rehearse(operator, operator.plan("shop"))
    assert found["state"] == "failed"
    assert found["error"]["type"] == "SandboxViolation"
    assert "'another'" in found["error"]["message"]
    assert "denied" in [limit["code"] for limit in found["report"]["limits"]]
    assert site.project.databases["another"].tables() == set()
    assert state_of(site) == before
    assert copies(site) == set()


MANY = {
    "sqlite": "INSERT INTO shop_item (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
    "SELECT i + 1 FROM n WHERE i < 300000) SELECT 'item ' || i FROM n",
    "postgres": "INSERT INTO shop_item (name) SELECT 'item ' || i "
    "FROM generate_series(1, 300000) i",
    "mariadb": "INSERT INTO shop_item (name) SELECT CONCAT('item ', seq) "
    "FROM seq_1_to_300000",
}


@EACH
@pytest.mark.parametrize("instant", ["at once", "copy", "step"])
def test_a_killed_rehearsal_leaves_nothing(build, pair, instant):
    """Killed while it copies or while it migrates, it is failed at the next check, which
    removes its copy."""
    site = build(pair)
    operator = installed(site)
    site.execute(MANY[pair.vendor])
    site.project.add_migrations({"0002_wait": running("pass_gate('here')")})
    before = state_of(site)
    plan = operator.plan("shop")
    rehearsal = begin(operator, plan, kind="data")
    if instant == "at once":
        wait_for_start(operator, rehearsal)
    elif instant == "copy":
        until(lambda: copies(site), seconds=40, what="a copy is made", every=0.002)
    else:
        site.project.await_gate("here")
        assert copies(site)
    kill(rehearsal)
    found = wait(operator, rehearsal, seconds=45)
    assert found["state"] == "failed"
    assert found["error"]["type"] == "Interrupted"
    until(lambda: not copies(site), seconds=10, what="the copy is removed")
    assert operator.get(f"rehearsals/{rehearsal}")["copy_removed"]
    assert state_of(site) == before
    site.project.open_gate("here")
    assert rehearse(operator, plan)["state"] == "succeeded"
    assert copies(site) == set()


@EACH
def test_nobody_waits_for_a_rehearsal(build, pair):
    """Readers and writers continue while a copy is made and migrated."""
    site = build(pair)
    operator = installed(site)
    site.execute(MANY[pair.vendor])
    field = "models.CharField(max_length=200, db_index=True)"
    alter = f'migrations.AlterField("item", "name", {field})'
    site.project.add_migrations({"0002_index": migration(ADD_SKU, alter)})
    plan = operator.plan("shop")
    longest, ended = [0.0], threading.Event()

    def read():
        with site.database.connect() as connection:
            while not ended.is_set():
                start = time.monotonic()
                cursor = connection.cursor()
                cursor.execute("SELECT name FROM shop_item WHERE id = 5")
                cursor.fetchall()
                cursor.execute("UPDATE shop_item SET name = 'apple' WHERE id = 1")
                longest[0] = max(longest[0], time.monotonic() - start)
                time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        found = rehearse(
            operator, plan, kind="data" if pair.vendor != "sqlite" else "schema"
        )
    finally:
        ended.set()
        reader.join()
    assert found["state"] == "succeeded", found["error"]
    assert longest[0] < 0.5, f"somebody waited for {longest[0]:.2f} s"


@EACH
def test_what_is_refused_is_told_before_anything_begins(build, pair):
    """A changed plan, an empty plan, no right, or a second rehearsal at the same time."""
    site = build(pair, {"0002_sku": column("sku")})
    operator = site.client("operator")
    plan = operator.plan("shop")

    def ask(client=operator, **more):
        body = {key: plan[key] for key in ("database", "targets", "fingerprint")}
        return client.call("POST", "rehearsals", json={**body, **more})

    expect_problem(ask(site.client("ci")), 403, "forbidden")
    expect_problem(ask(fingerprint=""), 428, "fingerprint_required")
    expect_problem(ask(fingerprint="a-b-c"), 409, "plan_changed", "stale_code")
    expect_problem(ask(kind="everything"), 400, "invalid_request")
    expect_problem(operator.call("GET", f"rehearsals/{'0' * 32}"), 404, "unknown_rehearsal")
    site.project.add_migrations(
        {"0003_wait": running("pass_gate('here')", after="0002_sku")}
    )
    plan = operator.plan("shop")
    rehearsal = begin(operator, plan)
    expect_problem(ask(), 409, "active_rehearsal")
    site.project.await_gate("here")
    site.project.open_gate("here")
    assert wait(operator, rehearsal)["state"] == "succeeded"
    listed = operator.get("rehearsals")["rehearsals"]
    assert [found["id"] for found in listed] == [rehearsal]
    assert listed[0]["report"] is None


@EACH
def test_a_rehearsal_goes_forth_and_back(build, pair):
    """The schema afterwards is compared with that before; differences are reported."""
    site = build(pair)
    operator = installed(site)
    alter = 'migrations.AlterField("item", "name", models.CharField(max_length=150))'
    site.project.add_migrations({"0002_more": migration(ADD_SKU, alter)})
    before = state_of(site)
    found = rehearse(operator, operator.plan("shop"), kind="data", round_trip=True)
    assert found["state"] == "succeeded", found["error"]
    assert [step["state"] for step in found["report"]["back"]] == ["reverted"]
    assert len(found["report"]["back"][0]["operations"]) == 2
    assert found["report"]["differences"] == []
    leaves = 'migrations.RunSQL("CREATE TABLE left_over (id integer)", "SELECT 1")'
    site.project.add_migrations({"0002_more": migration(leaves)})
    found = rehearse(operator, operator.plan("shop"), round_trip=True)
    assert found["state"] == "succeeded", found["error"]
    assert any("left_over" in line for line in found["report"]["differences"])
    stuck = 'migrations.RunSQL("CREATE TABLE left_over (id integer)")'
    site.project.add_migrations({"0002_more": migration(stuck)})
    found = rehearse(operator, operator.plan("shop"), round_trip=True)
    assert found["state"] == "succeeded", found["error"]
    assert found["report"]["back"] is None
    assert "no_way_back" in [limit["code"] for limit in found["report"]["limits"]]
    assert state_of(site) == before
    assert copies(site) == set()


@on("postgres-sync")
def test_a_step_with_a_wrong_lock_is_seen(build, pair):
    """An index that is created without CONCURRENTLY blocks writers; with it, no lock is
    seen, which is reported; a changed column type rewrites the table."""
    site = build(pair)
    operator = installed(site)
    index = 'migrations.RunSQL("CREATE INDEX {}by_name ON shop_item (name)")'
    retype = "ALTER TABLE shop_item ALTER COLUMN name TYPE char(200)"
    site.project.add_migrations(
        {
            "0002_blocks": migration(index.format("")),
            "0003_gentle": migration(
                'migrations.RunSQL("DROP INDEX by_name")',
                index.format("CONCURRENTLY "),
                after="0002_blocks",
                atomic=False,
            ),
            "0004_rewrites": migration(
                f'migrations.RunSQL("DROP INDEX by_name; {retype}")', after="0003_gentle"
            ),
        }
    )
    found = rehearse(operator, operator.plan("shop"), kind="data")
    assert found["state"] == "succeeded", found["error"]
    blocks, gentle, rewrites = found["report"]["steps"]
    (statement,) = statements(blocks)
    (lock,) = statement["locks"]
    assert (lock["table"], lock["mode"]) == ("shop_item", "ShareLock")
    assert "writes" in lock["blocks"]
    assert "reads" not in lock["blocks"]
    assert {statement["locks"] is None for statement in statements(gentle)} == {True}
    unseen = [
        limit["step"]
        for limit in found["report"]["limits"]
        if limit["code"] == "locks_outside_of_a_transaction"
    ]
    assert unseen == ["shop.0003_gentle"]
    assert [table for s in statements(rewrites) for table in s["rewrites"]] == ["shop_item"]


@on("postgres-gthread")
def test_what_reaches_the_whole_server_is_denied(build, pair):
    """A role would be created beside the original; it is neither created nor dropped."""
    site = build(pair)
    operator = installed(site)
    role = f"rehearsed_{site.database.name}"
    for sql in (
        f"CREATE ROLE {role}",
        f"CREATE DATABASE {role}",
        f"DO $$ BEGIN EXECUTE 'CREATE ROLE {role}'; END $$",
    ):
        operation = f"migrations.RunSQL({sql!r})"
        site.project.add_migrations({"0002_role": migration(operation)})
        found = rehearse(operator, operator.plan("shop"))
        assert found["state"] == "failed", sql
        assert found["error"]["type"] == "SandboxViolation", sql
        assert site.rows(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'") == []
        assert site.rows(f"SELECT 1 FROM pg_database WHERE datname = '{role}'") == []


@on("postgres-uvicorn", "sqlite-sync")
def test_another_database_takes_the_place_of_the_copy(build, pair):
    """The plan is executed there and stays there; the database itself is refused."""
    site = build(pair, others=("staging",))
    operator = site.client("operator")
    site.project.databases["staging"].become(site.database)
    operator.apply()
    options = Options(
        migration_route={"DATABASES": {"default": {"rehearsal_alias": "staging"}}}
    )
    site.project.set_options(options)
    server = site.serve()
    operator = site.client("operator", server=server)
    site.project.add_migrations({"0002_sku": column("sku")})
    before = state_of(site)
    found = rehearse(operator, operator.plan("shop"))
    assert found["state"] == "succeeded", found["error"]
    assert state_of(site) == before
    assert "sku" in site.project.databases["staging"].columns("shop_item")
    assert "another_database" in [limit["code"] for limit in found["report"]["limits"]]
    found = rehearse(operator, operator.plan("shop"))
    assert found["error"]["type"] == "PlanChanged"
    site.project.databases["staging"] = site.database
    site.project.set_options(options)
    operator = site.client("operator", server=site.serve())
    found = rehearse(operator, operator.plan("shop"))
    assert found["state"] == "failed"
    assert "same database" in found["error"]["message"]
    assert state_of(site) == before


@on("postgres-sync")
def test_the_direct_way_to_a_database_leads_to_the_copy_as_well(build, pair):
    """A direct alias is another address of the same database."""
    site = build(pair)
    words = {**site.database.settings(), "HOST": "localhost"}
    site.project.set_options(
        Options(
            settings={"DATABASES": {"straight": words}},
            migration_route={"DATABASES": {"default": {"direct_alias": "straight"}}},
        )
    )
    operator = site.client("operator", server=site.serve())
    operator.apply()
    site.project.add_migrations({"0002_sku": column("sku")})
    before = state_of(site)
    found = rehearse(operator, operator.plan("shop"), kind="data", round_trip=True)
    assert found["state"] == "succeeded", found["error"]
    assert found["report"]["differences"] == []
    assert state_of(site) == before
    assert copies(site) == set()


@EACH
def test_the_command_rehearses_and_waits(build, pair):
    """It prints what was observed; a plan that fails exits with 1."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    manage = site.project.manage
    told = manage("migration_route", "rehearse", "shop", "--data").stdout
    assert "shop.0002_sku" in told
    assert "not covered" in told
    assert "rehearsed at" in manage("migration_route", "plan", "shop").stdout
    assert "succeeded" in manage("migration_route", "rehearsals").stdout
    assert "Nothing to remove" in manage("migration_route", "rehearse", "--clean").stdout
    site.project.add_migrations({"0003_bad": running("1 / 0", after="0002_sku")})
    answer = manage("migration_route", "rehearse", "shop", check=False)
    assert answer.returncode == 1
    assert "ZeroDivisionError" in answer.stdout
    assert site.applied() == ["0001_initial"]
    assert copies(site) == set()


@EACH
def test_one_that_is_killed_at_any_instant_leaves_nothing(build, pair):
    """From start to end; sometimes only the controlling process is killed."""
    site = build(pair)
    operator = installed(site)
    site.project.add_migrations({"0002_slow": running("time.sleep(0.5)")})
    before = state_of(site)
    plan = operator.plan("shop")
    ends = []
    for instant in range(8):
        rehearsal = begin(operator, plan, kind="data")
        look = functools.partial(processes_of, rehearsal)
        until(look, seconds=20, what="it starts", every=0.005)
        time.sleep(0.3 + instant * 0.3)
        for pid in sorted(processes_of(rehearsal))[: 1 if instant % 2 else None]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found = wait(operator, rehearsal, seconds=50)
        ends.append(found["state"])
        until(lambda: not copies(site), seconds=10, what="the copy is removed")
        until(functools.partial(has_ended, rehearsal), seconds=10, what="its processes end")
        assert state_of(site) == before
        site.project.manage("migration_route", "rehearse", "--clean")
    assert "failed" in ends
    assert operator.get("ledger/verify")["intact"]
