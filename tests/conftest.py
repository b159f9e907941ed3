"""Shared fixtures: real databases, and processes that use the same ones."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.harness import packages

# A slow example reflects the load of the machine, not a failed property.
hypothesis.settings.register_profile(
    "any-machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any-machine")

if TYPE_CHECKING:
    from tests.factories import History


E2E = "E2E"
"""Environment variable that selects how many server and database combinations the long
tests run on: `all`, or `few`, which picks one per test. The choice is stable and differs
between tests."""

LONG = {"pair": "e2e", "vendor": "slow"}
"""Parameters that name a combination, each with the marker of the tests it applies to."""

REQUIRE_WHEEL = "REQUIRE_WHEEL"
"""Environment variable with which the tests refuse to run unless the package is installed
in the environment, as a wheel is. Without it, they also run on `src/`."""


@pytest.hookimpl(trylast=True)  # after the markers are added
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the combinations that `E2E=few` leaves out."""
    if os.environ.get(E2E) != "few":
        return
    everything = list(items)
    items[:] = [item for item in everything if _is_one_of_few(item)]
    kept = set(items)
    left_out = [item for item in everything if item not in kept]
    config.hook.pytest_deselected(items=left_out)


def _is_one_of_few(item: pytest.Item) -> bool:
    chosen = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    for parameter, mark in LONG.items():
        if parameter in chosen and item.get_closest_marker(mark):
            mine = chosen.pop(parameter)
            places = _choices(item, parameter)
            names = [getattr(item, "originalname", item.name), *map(_word, chosen.values())]
            chance = zlib.crc32("-".join(names).encode())
            return not places or bool(mine == places[chance % len(places)])
    return True


def _word(value: object) -> str:
    """Return a text for a value that is the same in every process that collects the
    tests."""
    return (
        str(value) if isinstance(value, str | int | float | None) else type(value).__name__
    )


def _choices(item: pytest.Item, parameter: str) -> list[Any]:
    """Return the values of a parameter; none where it is parametrized together with another
    one, since each of those pairs is a case of its own."""
    for marker in item.iter_markers("parametrize"):
        if marker.args[0] == parameter:
            return list(marker.args[1])
    return []


class Faults:
    """Prints each failure as it happens, so that an interrupted run reports it as well."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the test and the last lines of its failure."""
        if report.failed:
            writer = self._config.get_terminal_writer()
            why = report.longreprtext.strip().splitlines()[-3:]
            writer.line(f"\n{report.when} failed: {report.nodeid}")
            writer.line("\n".join(why))


def pytest_configure(config: pytest.Config) -> None:
    """Check the package; register the reporter in the controlling process only."""
    if os.environ.get(REQUIRE_WHEEL):
        _require_wheel()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Faults(config), "faults")


def _require_wheel() -> None:
    """Raise `UsageError` if the package is not in the environment's own site-packages."""
    spec = importlib.util.find_spec("migration_route")
    found = Path(spec.origin) if spec and spec.origin else None
    installed = Path(sysconfig.get_path("purelib"))
    if found is None or not found.is_relative_to(installed):
        raise pytest.UsageError(f"migration_route is {found}, not in {installed}")


@pytest.fixture(autouse=True)
def _required_packages(request: pytest.FixtureRequest) -> None:
    """Skip a test whose project uses a package that is not installed."""
    for marker in request.node.iter_markers("needs_packages"):
        for name in marker.args:
            packages.require(name)


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: Any,
    django_db_modify_db_settings: None,
) -> Iterator[None]:
    """Create every test database: pytest-django creates only those that a marker names."""
    from django.test.utils import setup_databases, teardown_databases

    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False)
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


@pytest.fixture
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Give a test both databases, with real transactions; delete its rows afterwards.

    `TransactionTestCase` would flush every table and recreate the permissions, which takes
    longer than most tests.
    """
    with django_db_blocker.unblock():
        yield
        _clean()


def _clean() -> None:
    from django.db import connections, transaction

    from migration_route.conf import route_settings
    from migration_route.ledger import spool
    from migration_route.planning import graph, sources
    from migration_route.services import audit, reauthentication

    if folder := spool.spool_dir("default"):
        shutil.rmtree(folder, ignore_errors=True)
    with transaction.atomic(), connections["default"].cursor() as cursor:
        for table in (
            "migration_route_approval",
            "migration_route_delivery",
            "migration_route_entry",
            "migration_route_event",
            "migration_route_outbox",
            "migration_route_rehearsal",
            "migration_route_run",
            "auth_user_groups",
            "auth_group_permissions",
            "auth_group",
            "auth_user_user_permissions",
            "django_session",
            "auth_user",
        ):
            cursor.execute(f"DELETE FROM {table}")
    connections.close_all()
    for alias in connections:
        graph.forget_graph(alias)
    route_settings.cache_clear()
    sources.build.cache_clear()
    sources.place.cache_clear()
    audit.anonymous_denials.forget()
    reauthentication.attempts.forget()


@pytest.fixture
def project(
    database: None, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Callable[[], None]:
    """Pass the test databases and settings to the processes that a test starts.

    Call it again after the settings change.
    """
    from tests.factories import PROCESS, tell_processes

    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.execution.process_settings")
    monkeypatch.setenv(PROCESS, "")
    tell_processes()
    return tell_processes


@pytest.fixture
def history(
    project: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> Iterator[History]:
    """Let a test write the migrations of `testapp` itself; none of them is applied.

    The table of its model stays; everything else they create is removed afterwards.
    """
    from django.db import connections
    from django.db.migrations.recorder import MigrationRecorder

    from tests.factories import History, tables

    connection = connections["default"]
    recorder = MigrationRecorder(connection)
    usual = list(recorder.migration_qs.filter(app="testapp").values_list("name", flat=True))
    recorder.migration_qs.filter(app="testapp").delete()
    before = tables()
    found = History(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"testapp": found.package}
    project()
    yield found
    connections.close_all()
    for table in tables() - before:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")
    recorder.migration_qs.filter(app="testapp").delete()
    recorder.migration_qs.bulk_create(
        recorder.Migration(app="testapp", name=name) for name in usual
    )


@pytest.fixture
def empty_database(
    database: None, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> Iterator[str]:
    """Return the alias of an empty database, which is also the ledger's database."""
    from django.db import connections

    alias = "empty"
    usual = connections["default"]
    name = str(tmp_path / "empty.sqlite3")
    if usual.vendor != "sqlite":
        name = f"{usual.settings_dict['NAME']}_empty"
        with usual.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {usual.ops.quote_name(name)}")
            cursor.execute(f"CREATE DATABASE {usual.ops.quote_name(name)}")
    monkeypatch.setitem(
        connections.settings, alias, {**connections.settings["default"], "NAME": name}
    )
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LEDGER_DATABASE": alias}
    yield alias
    connections[alias].close()
    with suppress(AttributeError):
        del connections[alias]
    if usual.vendor != "sqlite":
        with usual.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {usual.ops.quote_name(name)}")
