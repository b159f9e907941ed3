"""Tests that a failing database backend affects only its own alias."""

from __future__ import annotations

from tests.e2e.test_rehearsal import rehearse
from tests.harness.client import expect, expect_problem
from tests.harness.migrations import column
from tests.harness.packages import needs
from tests.harness.pairs import on
from tests.harness.project import Options

SECRET = "password-that-a-driver-repeats"
FAULT = f"""
from django.db.backends.sqlite3 import base

class DriverFault(Exception):
    pass

class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, params):
        raise {{error}}("login with {SECRET} failed")
"""
WRAPPER = """
from django.db.backends.sqlite3 import base
from django.core.exceptions import ImproperlyConfigured

class DatabaseWrapper(base.DatabaseWrapper):
    def __init__(self, *args, **kwargs):
        raise ImproperlyConfigured("the driver is too old")
"""
BACKENDS = {
    "engine_of_no_module": ("no.such.backend", "", "ModuleNotFoundError"),
    "module_raises": ("backends.module", "raise OSError('no library')", "OSError"),
    "driver_is_missing": ("backends.driver", "import no_such_driver", "no_such_driver"),
    "wrapper_raises": ("backends.wrapper", WRAPPER, "the driver is too old"),
    "connect_raises_os_error": ("backends.os", FAULT.format(error="OSError"), "OSError"),
    "connect_raises_its_own": (
        "backends.own",
        FAULT.format(error="DriverFault"),
        "DriverFault",
    ),
    "connect_raises_interface_error": (
        "backends.interface",
        FAULT.format(error="base.Database.InterfaceError"),
        "InterfaceError",
    ),
}
MSSQL = {
    "ENGINE": "mssql",
    "NAME": "reports",
    "USER": "sa",
    "PASSWORD": SECRET,
    "HOST": "127.0.0.1",
    "PORT": "1",
    "OPTIONS": {"connection_timeout": 1, "connection_retries": 0},
}


def site_beside(build, pair, aliases, files, **route):
    """Build a site whose `default` works, with these aliases beside it."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    for path, text in files.items():
        site.project.write(path, text)
    site.project.set_options(
        Options(
            settings={"DATABASES": aliases},
            migration_route={"READY_DATABASES": ["default"], **route},
        )
    )
    site.serve()
    return site


def site_of_faults(build, pair, **route):
    aliases, files = {}, {"backends/__init__.py": ""}
    for alias, (engine, text, _) in BACKENDS.items():
        aliases[alias] = {"ENGINE": engine, "NAME": "unused", "PASSWORD": SECRET}
        if text:
            folder = engine.replace(".", "/")
            files[f"{folder}/__init__.py"] = ""
            files[f"{folder}/base.py"] = text
    return site_beside(build, pair, aliases, files, **route)


@on("sqlite-sync", "postgres-gthread", "mariadb-uvicorn")
def test_each_database_fails_alone(build, pair):
    """API, page, command and readiness respond for the working database, and name the cause
    for each other one, without the settings that its driver repeats."""
    site = site_of_faults(build, pair)
    ci = site.client("ci")
    status = ci.status()
    assert status["default"]["pending_migrations"] == ["shop.0002_sku"]
    for alias, (_, _, cause) in BACKENDS.items():
        assert not status[alias]["reachable"]
        assert status[alias]["problem"]["code"] == "database_unavailable"
        assert cause in status[alias]["problem"]["detail"]
        assert SECRET not in str(status[alias])
        answer = ci.ask_for_plan(database=alias)
        assert cause in expect_problem(answer, 503, "database_unavailable")["detail"]
    assert site.client(None).call("GET", "ready").status_code == 503
    page = site.person("boss").http.get("/_m/")
    assert page.status_code == 200
    assert "the driver is too old" in page.text
    told = site.project.manage("migration_route", "status").stdout
    assert "1 pending" in told
    assert "DriverFault" in told
    rehearsed = rehearse(site.client("operator"), ci.plan())
    assert rehearsed["state"] == "succeeded", rehearsed
    run = ci.apply()
    assert run["state"] == "succeeded", ci.events(run["id"])
    assert expect(site.client(None).call("GET", "ready"), 200) == {"ready": True}
    assert SECRET not in page.text + told


@on("sqlite-sync")
def test_check_names_the_backends_that_cannot_be_loaded(build, pair):
    """These are warnings: the other databases can be migrated."""
    site = site_of_faults(build, pair)
    # Without a database, Django's own checks of the fields load every backend.
    said = site.project.manage("check", "--database", "default").stderr
    for alias in ("engine_of_no_module", "module_raises", "wrapper_raises"):
        assert f"The backend of the database '{alias}' cannot be loaded" in said
    assert "W001" in said
    assert "connect_raises" not in said


@on("sqlite-sync")
def test_a_broken_database_of_the_ledger_is_named(build, pair):
    """Nothing can be recorded, so no run can start; `manage.py migrate` can."""
    ledger = {"ledger": {"ENGINE": "no.such.backend", "NAME": "unused"}}
    site = site_beside(build, pair, ledger, {}, LEDGER_DATABASE="ledger")
    ci = site.client("ci")
    status = ci.status()["default"]
    assert "shop.0002_sku" in status["pending_migrations"]
    assert status["problem"]["code"] == "database_unavailable"
    problem = expect_problem(ci.ask_for_run(ci.plan()), 503, "database_unavailable")
    assert "'ledger'" in problem["detail"]
    assert site.person("boss").http.get("/_m/").status_code == 200
    site.project.manage("migrate")
    assert site.has_column("sku")


@needs("mssql-django")
@on("sqlite-sync", "postgres-sync")
def test_sql_server_beside_a_sound_database(build, pair):
    """With mssql-django but without its driver or server, only its own alias fails."""
    site = site_beside(build, pair, {"reports": MSSQL}, {})
    ci = site.client("ci")
    status = ci.status()
    assert not status["reports"]["reachable"]
    assert status["reports"]["problem"]["code"] == "database_unavailable"
    assert SECRET not in str(status)
    assert ci.apply()["state"] == "succeeded"
    assert "reports" in site.project.manage("check", "--database", "default").stderr
    assert site.person("boss").http.get("/_m/").status_code == 200
    answer = ci.ask_for_plan(database="reports")
    expect_problem(answer, 503, "database_unavailable")
