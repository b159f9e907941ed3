"""Tests of resolving the requested targets."""

from __future__ import annotations

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.conf.databases import all_aliases, find_target
from migration_route.core.errors import InvalidRequest, UnknownDatabase, UnknownTarget
from migration_route.planning.graph import read_graph
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import find_destination, full_destination, make_plan


@pytest.fixture
def loader(history):
    """Return the loader of a history of three migrations."""
    history.table("0001_first", "made_a")
    history.table("0002_second", "made_b")
    history.table("0002_second_half", "made_c")
    return read_graph("default").loader


@pytest.mark.parametrize(
    ("text", "label", "keys"),
    [
        ("testapp", "testapp", ("0002_second_half",)),
        ("testapp.0001", "testapp.0001_first", ("0001_first",)),
        ("testapp.0001_first", "testapp.0001_first", ("0001_first",)),
        ("testapp.0002_second_h", "testapp.0002_second_half", ("0002_second_half",)),
        ("testapp.zero", "testapp.zero", (None,)),
    ],
)
def test_a_target_is_found(loader, text, label, keys):
    """The app, a name, a prefix, or zero."""
    found = find_destination(text, loader, ledger_here=True)
    assert found.label == label
    assert found.keys == tuple(("testapp", key) for key in keys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere", "no app 'nowhere'"),
        ("nowhere.0001", "no app 'nowhere'"),
        ("testapp.0009", "starts with '0009'"),
        ("testapp.first", "starts with 'first'"),
        ("testapp.0002_second.py", "starts with '0002_second.py'"),
        ("messages", "has no migrations"),
        ("", "no app ''"),
        (".", "no app ''"),
        ("--fake", "no app '--fake'"),
        ("testapp 0001", "no app 'testapp 0001'"),
    ],
)
def test_what_is_not_there_is_unknown(loader, text, message):
    """The error names the target."""
    with pytest.raises(UnknownTarget, match=message):
        find_destination(text, loader, ledger_here=True)


def test_a_beginning_that_fits_more_than_one_is_told_with_all_of_them(loader):
    """Django would refuse it as well."""
    with pytest.raises(UnknownTarget, match="0002_second, 0002_second_half"):
        find_destination("testapp.0002", loader, ledger_here=True)


def test_a_name_that_another_one_begins_with_is_told_as_django_tells_it(loader):
    """`manage.py migrate testapp 0002_second` is refused in the same way."""
    with pytest.raises(UnknownTarget, match="0002_second, 0002_second_half"):
        find_destination("testapp.0002_second", loader, ledger_here=True)


def test_the_ledger_does_not_migrate_itself(loader):
    """Not on its own database; elsewhere its tables are like any others."""
    for text in ("migration_route.zero", "migration_route.0001"):
        with pytest.raises(InvalidRequest, match="own tables"):
            find_destination(text, loader, ledger_here=True)
        find_destination(text, loader, ledger_here=False)
    find_destination("migration_route", loader, ledger_here=True)


def test_no_target_is_everything(loader):
    """As `migrate` without arguments."""
    assert set(full_destination(loader).keys) == set(loader.graph.leaf_nodes())


def test_an_app_that_django_itself_has_migrations_for_is_found(loader):
    """Not only those of the project."""
    assert find_destination("auth", loader, ledger_here=True).keys


def test_a_replaced_migration_leads_to_what_it_stands_for(history):
    """A partly applied squashed migration is not in the graph; the migrations it replaces
    are."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    history.write(
        "0001_squashed_0002_b",
        body="replaces = [('testapp', '0001_a'), ('testapp', '0002_b')]",
    ).write_text(
        (history.folder / "0001_squashed_0002_b.py")
        .read_text()
        .replace("dependencies = [('testapp', '0002_b')]", "dependencies = []")
    )
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_a")
    found = find_destination(
        "testapp.0001_squashed", read_graph("default").loader, ledger_here=True
    )
    assert found.keys == (("testapp", "0002_b"),)


def test_targets_of_two_directions_are_refused(history):
    """A plan has one direction."""
    history.table("0001_a", "made_a")
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_a")
    MigrationRecorder(connections["default"]).record_unapplied(
        "admin", "0003_logentry_add_action_flag_choices"
    )
    try:
        with pytest.raises(InvalidRequest, match="forwards and backwards"):
            make_plan(PlanRequest(targets=("testapp.zero", "admin")))
    finally:
        MigrationRecorder(connections["default"]).record_applied(
            "admin", "0003_logentry_add_action_flag_choices"
        )


def test_a_database_is_found_by_its_alias():
    """Those of the settings, in their order."""
    assert all_aliases() == ("default", "other")
    assert find_target("other").alias == "other"


@pytest.mark.parametrize("alias", ["", "nowhere", "DEFAULT", "default "])
def test_another_database_is_unknown(alias):
    """The error lists the existing ones."""
    with pytest.raises(UnknownDatabase, match="default, other"):
        find_target(alias)
