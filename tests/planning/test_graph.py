"""Tests that the graph is cached per set of files, and the recorder read every time."""

from __future__ import annotations

import pytest
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.errors import (
    BrokenMigrations,
    ConflictingMigrations,
    DatabaseUnavailable,
    InconsistentHistory,
)
from migration_route.planning import graph as graphs
from migration_route.planning.graph import read_graph, read_recorder
from tests.factories import tables, vendor


@pytest.fixture
def built(monkeypatch) -> list[str]:
    """Count how often a graph is built."""
    times: list[str] = []
    build = MigrationLoader.build_graph

    def counted(self: MigrationLoader) -> None:
        times.append(self.connection.alias if self.connection else "")
        build(self)

    monkeypatch.setattr(MigrationLoader, "build_graph", counted)
    return times


def settled() -> None:
    """Read until Python has created its cache folder beside the migrations."""
    read_graph("default")
    read_graph("default")


def record(name: str) -> None:
    """Record a migration of testapp as applied."""
    MigrationRecorder(connections["default"]).record_applied("testapp", name)


def test_nothing_is_built_again_while_nothing_changes(history, built):
    """Ten reads of one state build one graph."""
    history.table("0001_a", "made_a")
    settled()
    built.clear()
    first = read_graph("default")
    assert all(read_graph("default") is first for _ in range(10))
    assert built == []


def test_the_recorder_is_read_every_time(history, built):
    """A migration applied by another process is visible in the next read."""
    history.table("0001_a", "made_a")
    settled()
    assert ("testapp", "0001_a") in read_graph("default").pending
    record("0001_a")
    assert ("testapp", "0001_a") not in read_graph("default").pending
    assert read_recorder("default") >= {("testapp", "0001_a")}


def test_a_look_asks_the_database_little(history, django_assert_max_num_queries):
    """A status may be requested every second."""
    history.table("0001_a", "made_a")
    settled()
    with django_assert_max_num_queries(3, connection=connections["default"]):
        read_graph("default")


def test_a_new_file_is_seen(history, built):
    """A deploy adds a migration while the process is running."""
    history.table("0001_a", "made_a")
    settled()
    built.clear()
    history.table("0002_b", "made_b")
    assert read_graph("default").pending[-2:] == (
        ("testapp", "0001_a"),
        ("testapp", "0002_b"),
    )
    assert built


def test_a_file_that_goes_is_seen(history, built):
    """A deploy removes a migration; its record is then ahead of the code."""
    history.table("0001_a", "made_a")
    path = history.table("0002_b", "made_b")
    record("0001_a")
    record("0002_b")
    assert read_graph("default").ahead == ()
    path.unlink()
    assert read_graph("default").ahead == (("testapp", "0002_b"),)
    assert read_graph("default").pending == ()


def test_what_is_recorded_for_other_apps_is_not_ahead(history):
    """The records of an uninstalled app are ignored."""
    history.table("0001_a", "made_a")
    MigrationRecorder(connections["default"]).record_applied("gone", "0001_initial")
    try:
        assert read_graph("default").ahead == ()
    finally:
        MigrationRecorder(connections["default"]).record_unapplied("gone", "0001_initial")


def test_each_database_has_a_graph_of_its_own(history):
    """What is applied here is not applied there."""
    history.table("0001_a", "made_a")
    record("0001_a")
    assert ("testapp", "0001_a") not in read_graph("default").pending
    assert ("testapp", "0001_a") in read_graph("other").pending


def test_two_last_migrations_are_a_conflict(history):
    """The graph can be read, and reports what `migrate` would refuse."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    history.table("0002_c", "made_c", after="0001_a")
    problem = read_graph("default").problem
    assert isinstance(problem, ConflictingMigrations)
    assert problem.facts["conflicts"] == {"testapp": ["0002_b", "0002_c"]}


def test_a_gap_in_the_history_is_inconsistent(history):
    """The second is recorded, the first is not."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    record("0002_b")
    problem = read_graph("default").problem
    assert isinstance(problem, InconsistentHistory)
    assert "0001_a" in problem.message


@pytest.mark.parametrize(
    "source",
    [
        "this is not Python",
        "import a_module_that_is_not_there",
        "raise RuntimeError('at import')",
        "import sys; sys.exit(1)",
        "x = 1",
        "from django.db import migrations\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('testapp', '0000_nowhere')]\n",
        "from django.db import migrations\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('testapp', '0001_a')]\n",
    ],
    ids=["syntax", "import", "raises", "exits", "no class", "no parent", "circle"],
)
def test_files_that_cannot_be_read_are_told_not_raised(history, source):
    """Whatever the module of a migration does, the reading process stays alive."""
    (history.folder / "0001_a.py").write_text(source)
    with pytest.raises(BrokenMigrations):
        read_graph("default")
    (history.folder / "0001_a.py").unlink()
    assert read_graph("default").problem is None


def test_no_table_of_records_is_nothing_applied(empty_database):
    """An empty database can be planned, and stays empty."""
    assert read_recorder(empty_database) == frozenset()
    assert read_graph(empty_database).pending
    assert tables(empty_database) == set()


def test_a_database_that_is_gone_is_unavailable(database):
    """No response is not an empty response."""
    usual = connections["default"]
    gone = usual.copy()
    nowhere = {"NAME": "/nonexistent/x.sqlite3"} if vendor() == "sqlite" else {"PORT": "1"}
    gone.settings_dict = {**gone.settings_dict, **nowhere}
    connections["default"] = gone
    try:
        with pytest.raises(DatabaseUnavailable, match="'default'"):
            read_graph("default")
    finally:
        connections["default"] = usual
    assert read_graph("default").recorded


def test_the_order_of_what_is_pending_is_that_of_django(history):
    """`migrate` without arguments uses the same order."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    history.table("0003_c", "made_c")
    found = [name for app, name in read_graph("default").pending if app == "testapp"]
    assert found == ["0001_a", "0002_b", "0003_c"]


def test_a_forgotten_graph_is_built_again(history, built):
    """`forget` is for graphs that Django rebuilt without replacements."""
    history.table("0001_a", "made_a")
    settled()
    built.clear()
    graphs.forget_graph("default")
    read_graph("default")
    assert built.count("default") >= 1
