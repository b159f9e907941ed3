"""Tests that states which render on demand send the statements of Django's own, for whole
projects, forwards and backwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from migration_route.core.enums import RehearsalState
from tests.harness.databases import VENDORS
from tests.outcome import surroundings

if TYPE_CHECKING:
    from tests.harness.project import Options, Project
    from tests.outcome.conftest import Prepare
    from tests.outcome.ways import BothWays

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MIGRATE = """
import json, re
from collections import Counter
from contextlib import nullcontext
from django.core.management import call_command
from django.db import connections
from django.db.migrations.state import ModelState
from migration_route.planning.states import executors_render_on_demand

def refuse(line):
    raise AssertionError(line)

sent, rendered = Counter(), [0]
render = ModelState.render

def counted(self, apps):
    rendered[0] += 1
    return render(self, apps)

def record(execute, sql, params, many, context):
    text = re.sub(r"(SAVEPOINT) \\S+", r"\\1", str(sql))
    sent[re.sub("'[^']*'", "?", text)] += 1
    return execute(sql, params, many, context)

ModelState.render = counted
on_demand = executors_render_on_demand(refuse) if {lazy} else nullcontext()
with on_demand, connections["default"].execute_wrapper(record):
    for words in {commands}:
        call_command("migrate", *words, verbosity=0)
print(json.dumps([rendered[0], sent]))
"""


def sent_by(
    project: Project, *, lazy: bool, back: tuple[str, ...]
) -> tuple[int, dict[str, int]]:
    """Migrate an empty database, and these targets back and forth; return the number of
    rendered models, and how often each statement was sent."""
    commands = [(), *(words for app in back for words in ((app, "zero"), (app,)))]
    project.environment["PYTHONHASHSEED"] = "0"  # the order of some names in statements
    output = project.python(
        MIGRATE.replace("{lazy}", str(lazy)).replace("{commands}", repr(commands))
    )
    rendered, sent = json.loads(output.splitlines()[-1])
    return rendered, sent


def both_ways(prepare: Prepare, name: str, vendor: str) -> BothWays:
    """Return the project twice."""
    if name == "wagtail":
        pytest.importorskip("wagtail")
    options: Options = (
        surroundings.contrib() if name == "contrib" else getattr(surroundings, name)(vendor)
    )
    folders = surroundings.folders(vendor) if name == "apps" else ()
    return prepare(vendor, options, apps=folders)


each_project = pytest.mark.parametrize("name", ["contrib", "apps", "wagtail"])


@pytest.mark.parametrize("vendor", VENDORS)
@each_project
def test_the_statements_are_those_of_django(
    prepare: Prepare, name: str, vendor: str
) -> None:
    both = both_ways(prepare, name, vendor)
    back = {"contrib": ("auth",), "apps": ("library",), "wagtail": ("wagtailredirects",)}

    eager, expected = sent_by(both.django, lazy=False, back=back[name])
    rendered, sent = sent_by(both.route, lazy=True, back=back[name])

    assert sum(expected.values()) > 50
    assert sent == expected
    assert rendered < eager


@pytest.mark.parametrize("vendor", VENDORS)
@each_project
def test_the_sql_of_a_plan_is_what_its_rehearsal_sends(
    prepare: Prepare, name: str, vendor: str
) -> None:
    project = both_ways(prepare, name, vendor).route
    project.manage("migrate", "migration_route", timeout=300)
    output = project.manage(
        "migration_route", "rehearse", "--round-trip", "--json", check=False, timeout=1500
    ).stdout
    found = json.loads(output)
    assert found["state"] == RehearsalState.SUCCEEDED, found["error"]
    steps = [*found["report"]["steps"], *(found["report"]["back"] or ())]
    assert len(steps) > 20
    assert {step["name"]: step["sql_differences"] for step in steps} == {
        step["name"]: [] for step in steps
    }
