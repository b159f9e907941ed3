"""Tests of projects whose own scripts prepare what Django needs: a new process runs them
too."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from tests.harness.migrations import column
from tests.harness.pairs import on
from tests.harness.project import Options

if TYPE_CHECKING:
    from tests.harness.project import Project
    from tests.harness.site import Site

pytestmark = pytest.mark.timeout(300)

MANAGE = """\
import os
import sys

{prepare}
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.settings")
    from {module} import execute_from_command_line

    execute_from_command_line(sys.argv)
"""
WSGI = """\
import os

{prepare}
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.settings")
from {module} import get_wsgi_application

application = get_wsgi_application()
"""
CONFIGURATION = """\
from configurations import Configuration

from market import plain_settings

Production = type(
    "Production",
    (Configuration,),
    {name: value for name, value in vars(plain_settings).items() if name.isupper()},
)
"""
PYMYSQL = """\
import pymysql

pymysql.version_info = (2, 2, 8, "final", 0)
pymysql.install_as_MySQLdb()
"""


def _with_configurations(project: Project) -> None:
    plain = (project.folder / "market/settings.py").read_text()
    project.write("market/plain_settings.py", plain)
    project.write("market/settings.py", CONFIGURATION)
    prepare = 'os.environ.setdefault("DJANGO_CONFIGURATION", "Production")\n'
    manage = MANAGE.format(prepare=prepare, module="configurations.management")
    project.write("manage.py", manage)
    project.write(
        "market/wsgi.py", WSGI.format(prepare=prepare, module="configurations.wsgi")
    )
    del project.environment["DJANGO_SETTINGS_MODULE"]


def _with_driver(project: Project) -> None:
    """Install PyMySQL as MySQLdb in the scripts, and not in the settings."""
    text = (project.folder / "market/settings.py").read_text()
    first, last = text.index("if any("), text.index("SECRET_KEY")
    project.write("market/settings.py", text[:first] + text[last:])
    module = "django.core.management"
    project.write("manage.py", MANAGE.format(prepare=PYMYSQL, module=module))
    project.write("market/wsgi.py", WSGI.format(prepare=PYMYSQL, module="django.core.wsgi"))
    del project.environment["DJANGO_SETTINGS_MODULE"]


def _assert_it_applies(site: Site) -> None:
    """Apply over HTTP, and then by the command."""
    site.serve(timeout=60, workers=1)  # a second worker might read the changed file first
    ci = site.client("ci")
    run = ci.apply()
    assert run["state"] == "succeeded", run
    assert site.has_column("sku")
    for name in ("grade", "rank"):
        site.project.add_migrations({"0003_more": column(name, after="0002_sku")})
        plan = ci.plan()  # the second time, a new process reads the changed file
        assert name in plan["steps"][0]["operations"][0]["description"]
    answer = site.project.manage("migration_route", "apply", "--yes")
    assert "0003_more" in answer.stdout
    assert site.has_column("rank")


@on("sqlite-sync", "postgres-gthread", "mariadb-sync")
def test_a_project_with_django_configurations(build, pair):
    """Its settings are a class, which only its own scripts can load."""
    if importlib.util.find_spec("configurations") is None:
        pytest.skip("django-configurations is not installed")
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    _with_configurations(site.project)
    _assert_it_applies(site)


@on("mariadb-sync", "mariadb-gthread")
def test_a_project_that_installs_pymysql_in_its_scripts(build, pair):
    """Neither the settings nor Django know of a driver named MySQLdb."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    _with_driver(site.project)
    _assert_it_applies(site)


@on("sqlite-sync")
def test_the_words_of_command_start_the_process(build, pair):
    """An entry point under another name, found beside the settings."""
    options = Options(migration_route={"COMMAND": ["python", "scripts/run.py"]})
    site = build(pair, {"0002_sku": column("sku")}, serve=False, options=options)
    site.project.write(
        "scripts/run.py",
        "import os, sys\nfrom pathlib import Path\n"
        "sys.path.insert(0, str(Path(__file__).parent.parent))\n"
        "with open('started', 'a') as file:\n    print(*sys.argv[1:3], file=file)\n"
        + (site.project.folder / "manage.py").read_text().partition("annotations\n")[2],
    )
    _assert_it_applies(site)
    started = (site.project.folder / "started").read_text()
    assert "migration_route run" in started
    assert "migration_route plan-json" in started


@on("sqlite-sync")
def test_the_error_of_a_process_that_cannot_start_comes_first(build, pair):
    """A script fails, as with a missing dependency."""
    options = Options(migration_route={"COMMAND": ["python", "broken.py"]})
    site = build(pair, {"0002_sku": column("sku")}, serve=False, options=options)
    site.project.write("broken.py", "import a_driver_that_is_not_there\n")
    site.serve()
    ci = site.client("ci")
    run = ci.apply()
    assert (run["state"], run["outcome"]) == ("failed", "launch_failed")
    message = run["error"]["message"]
    assert message.startswith(
        "ModuleNotFoundError: No module named 'a_driver_that_is_not_there'"
    )
    answer = site.project.manage("migration_route", "apply", "--yes", check=False)
    assert answer.returncode == 1
    assert "ModuleNotFoundError" in answer.stdout + answer.stderr
