"""Tests that the plan shows what will happen, and that only that happens. Scenarios F1 to
F4."""

from __future__ import annotations

from tests.harness.client import expect_problem
from tests.harness.migrations import RUN, column, migration, running
from tests.harness.pairs import on, on_each_once

ADD_SKU = 'migrations.AddField("item", "sku", models.CharField(max_length=20, default=""))'
RAW = "migrations.RunSQL(\"UPDATE shop_item SET name = 'raw'\", migrations.RunSQL.noop)"
ONE_WAY = 'migrations.RunSQL("UPDATE shop_item SET sku = name")'

# After files have changed under a server, a new process reads the plan: on a busy machine
# that takes longer than the five seconds that gunicorn allows elsewhere.
A_NEW_PROCESS_PLANS = 30


@on_each_once
def test_f1_the_plan_shows_what_would_happen(build, pair):
    """Operations with SQL, opaque Python, atomic, reversible, findings and a
    fingerprint."""
    site = build(
        pair,
        {
            "0002_sku": migration(ADD_SKU, RUN, RAW),
            "0003_one_way": migration(ONE_WAY, after="0002_sku", atomic=False),
        },
    )
    planner = site.client("planner")
    plan = planner.plan()
    assert plan["database"] == "default"
    assert plan["direction"] == "forwards"
    assert plan["transactional_ddl"] is site.database.transactional_ddl
    assert len(plan["fingerprint"]) >= 16
    first, second = plan["steps"]
    assert (first["app"], first["name"]) == ("shop", "0002_sku")
    assert (first["direction"], first["atomic"], first["reversible"]) == (
        "forwards",
        True,
        True,
    )
    added, python, raw = first["operations"]
    assert "sku" in added["description"]
    assert any("ALTER TABLE" in sql or "CREATE TABLE" in sql for sql in added["sql"])
    assert not added["opaque"]
    assert python["opaque"]
    assert not python["sql"]
    assert any("SET name = 'raw'" in sql for sql in raw["sql"])
    assert (second["name"], second["atomic"], second["reversible"]) == (
        "0003_one_way",
        False,
        False,
    )
    for finding in plan["findings"]:
        assert finding["code"]
        assert finding["severity"] in ("info", "warning", "blocking")
        assert finding["message"]
    found = {(f["code"], f["step"], f["operation"]) for f in plan["findings"]}
    label, last = "shop.0002_sku", "shop.0003_one_way"
    assert ("adds_required_column", label, 0) in found
    assert ("one_way", last, None) in found
    if site.database.transactional_ddl:
        assert ("mixes_data_and_schema", label, 1) in found
        assert ("not_atomic", last, None) in found
    else:
        assert ("ddl_commits", None, None) in found

    assert planner.plan()["fingerprint"] == plan["fingerprint"]
    only_first = planner.plan("shop.0002_sku")
    assert [step["name"] for step in only_first["steps"]] == ["0002_sku"]
    assert only_first["fingerprint"] != plan["fingerprint"]
    assert site.applied() == ["0001_initial"]


OLD_CODE_INSERTS = "from shop.models import Item; Item.objects.create(name='by old code')"


@on_each_once
def test_row_n_the_plan_says_that_inserts_of_old_code_will_fail(build, pair):
    """They do fail: Django drops the default again. With the hint followed, the plan has no
    finding and the old code works."""
    kept = 'models.CharField(max_length=20, db_default="")'
    site = build(
        pair,
        {
            "0002_sku": migration(f'migrations.AddField("item", "sku", {kept})'),
            "0003_ean": column("ean", after="0002_sku"),
        },
    )
    ci = site.client("ci")
    harmless = ci.plan("shop.0002_sku")
    assert "adds_required_column" not in {f["code"] for f in harmless["findings"]}
    run = ci.run(harmless)
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    site.project.manage("shell", "--no-imports", "-c", OLD_CODE_INSERTS)

    (warned,) = [f for f in ci.plan()["findings"] if f["code"] == "adds_required_column"]
    assert (warned["step"], warned["operation"]) == ("shop.0003_ean", 0)
    assert "shop_item.ean" in warned["message"]
    assert "db_default" in warned["hint"]
    assert ci.apply()["state"] == "succeeded"
    answer = site.project.manage(
        "shell", "--no-imports", "-c", OLD_CODE_INSERTS, check=False
    )
    assert answer.returncode != 0
    assert "ean" in answer.stderr
    assert site.names() == ["by old code"]


@on_each_once
def test_a_finding_that_the_migration_accepts_keeps_its_reason(build, pair):
    """Over the API and on the terminal."""
    source = column("sku").replace(
        "    atomic = True\n",
        '    accepted_findings = {"adds_required_column": "One release at a time."}\n',
    )
    site = build(pair, {"0002_sku": source})
    (found,) = [
        f
        for f in site.client("ci").plan()["findings"]
        if f["code"] == "adds_required_column"
    ]
    assert (found["severity"], found["accepted"]) == ("info", "One release at a time.")
    told = site.project.manage("migration_route", "plan").stdout
    assert "accepted: One release at a time." in told


@on_each_once
def test_f2_a_plan_that_has_changed_is_not_run(build, pair):
    """After an edited file, an added file, or a migration applied meanwhile, the plan that
    was read is `plan_changed`, and nothing of it is executed."""
    site = build(pair, {"0002_sku": column("sku")}, timeout=A_NEW_PROCESS_PLANS)
    ci = site.client("ci")
    read = ci.plan()

    site.project.add_migrations({"0002_sku": column("another_sku")})
    expect_problem(ci.ask_for_run(read), 409, "plan_changed")
    assert ci.plan()["fingerprint"] != read["fingerprint"]
    site.project.add_migrations({"0002_sku": column("sku")})

    added = site.project.folder / "shop/migrations/0003_size.py"
    site.project.add_migrations({added.stem: column("size", after="0002_sku")})
    expect_problem(ci.ask_for_run(read), 409, "plan_changed")
    added.unlink()
    assert site.applied() == ["0001_initial"]
    assert not site.has_column("another_sku")

    site.project.manage("migrate", "shop", "0002", "--verbosity", "0")
    expect_problem(ci.ask_for_run(read), 409, "plan_changed")
    assert site.applied() == ["0001_initial", "0002_sku"]
    assert ci.get("runs")["runs"] == []


@on_each_once
def test_f2_whichever_process_answers(build, pair):
    """A server started after the edit responds like the one from before it, though each is
    a build of its own: both respond for the same files."""
    site = build(pair, {"0002_sku": column("sku")}, workers=1, timeout=A_NEW_PROCESS_PLANS)
    earlier = site.client("ci")
    read = earlier.plan()
    site.project.add_migrations({"0002_sku": column("another_sku")})
    site.serve(workers=1, timeout=A_NEW_PROCESS_PLANS)
    later = site.client("ci", server=site.servers[1])
    expect_problem(later.ask_for_run(read), 409, "plan_changed")
    expect_problem(earlier.ask_for_run(read), 409, "plan_changed")

    read_later = later.plan()
    assert read_later["build"] != read["build"]
    site.project.add_migrations({"0002_sku": column("a_third_sku")})
    expect_problem(earlier.ask_for_run(read_later), 409, "plan_changed")
    expect_problem(later.ask_for_run(read_later), 409, "plan_changed")
    assert site.applied() == ["0001_initial"]
    assert later.get("runs")["runs"] == []


@on_each_once
def test_f3_a_server_with_other_code_does_not_run_the_plan(build, pair):
    """Old code with the new code's fingerprint returns `stale_code`, and vice versa."""
    site = build(pair, workers=1)
    deployed = site.beside("deployed")
    deployed.add_migrations({"0002_sku": column("sku")})
    site.serve(deployed, workers=1)
    old, new = (site.client("ci", server=server) for server in site.servers)
    plan_of_old, plan_of_new = old.plan(), new.plan()
    assert plan_of_old["build"] != plan_of_new["build"]
    expect_problem(old.ask_for_run(plan_of_new), 409, "stale_code")
    expect_problem(
        old.ask_for_run(plan_of_new, build=plan_of_new["build"]), 409, "stale_code"
    )
    expect_problem(new.ask_for_run(plan_of_old), 409, "stale_code")
    assert site.applied() == ["0001_initial"]
    for client in (old, new):
        without = {**plan_of_new, "fingerprint": ""}
        expect_problem(client.ask_for_run(without), 428, "fingerprint_required")
    assert site.applied() == ["0001_initial"]
    run = new.run(plan_of_new, build=plan_of_new["build"])
    assert new.wait_for_end(run["id"])["state"] == "succeeded"
    assert site.has_column("sku")


@on_each_once
def test_f4_a_file_that_was_mended_runs_as_it_now_stands(build, pair):
    """After a failed run the file is fixed on disk; the same web process runs the fixed
    code."""
    broken = running('raise ValueError("the broken one")')
    mended = running('Item.objects.using(alias).create(name="the mended one")')
    site = build(pair, {"0002_write": broken}, workers=1, timeout=A_NEW_PROCESS_PLANS)
    ci = site.client("ci")
    pid = site.server.answering_pid()
    failed = ci.apply()
    assert failed["state"] == "failed"
    assert "the broken one" in failed["steps"][0]["error"]["message"]
    site.project.add_migrations({"0002_write": mended})
    assert ci.apply()["state"] == "succeeded"
    assert site.names() == ["the mended one"]
    assert site.server.answering_pid() == pid


INDEX = 'migrations.AddIndex("item", models.Index(fields=["name"], name="item_by_name"))'


@on("postgres-gthread", "mariadb-sync", "sqlite-uvicorn")
def test_f1_a_plan_foretells_who_waits_and_warns_of_it(build, pair):
    """The lock of each statement, the size of its table, and the resulting finding."""
    site = build(pair, {"0002_index": migration(INDEX)})
    plan = site.client("ci").plan()
    (step,) = plan["steps"]
    (operation,) = step["operations"]
    (forecast,) = operation["forecasts"]
    (lock,) = forecast["locks"]
    assert lock["table"] == "shop_item"
    assert [table["table"] for table in plan["tables"]] == ["shop_item"]
    assert forecast["scans"] == ["shop_item"]
    assert (step["lock"], step["blocks"]) == (lock["mode"], lock["blocks"])
    found = {finding["code"]: finding for finding in plan["findings"]}
    if pair.vendor == "postgres":
        assert lock["mode"] == "ShareLock"
        assert set(lock["blocks"]) == {"schema_changes", "writes"}
        assert found["index_blocks_writes"]["step"] == "shop.0002_index"
        assert found["index_blocks_writes"]["operation"] == 0
