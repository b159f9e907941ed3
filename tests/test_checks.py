"""Do the system checks tell what is wrong before it matters?"""

from __future__ import annotations

import pytest
from django.core import checks
from django.db import connections

from migration_route.checks import check_settings


def ids(messages: list[checks.CheckMessage]) -> list[str | None]:
    """Return the ids of messages."""
    return [message.id for message in messages]


def test_good_settings_say_nothing():
    """The settings of this project are in order."""
    assert check_settings(None) == []


def test_every_problem_is_an_error(settings):
    """Three things are wrong, and three are told."""
    settings.MIGRATION_ROUTE = {"LEASE": 5, "LAUNCHER": "x", "TYPO": 1}
    found = check_settings(None)
    assert ids(found) == ["migration_route.E001"] * 3
    assert all(message.is_serious() and message.hint for message in found)


def test_a_guard_that_is_not_carried_yet_is_an_error(settings, monkeypatch):
    """It is told before somebody wonders why nothing is applied."""
    monkeypatch.setattr("migration_route.conf.reading.NOT_YET", ("LATER",))
    settings.MIGRATION_ROUTE = {"LATER": {"required": 1}}
    found = check_settings(None)
    assert ids(found) == ["migration_route.E002"]
    assert {message.msg.split()[0] for message in found} == {"LATER"}


def test_a_database_that_cannot_be_locked_is_a_warning(monkeypatch):
    """The route works for the others."""
    monkeypatch.setattr(type(connections["other"]), "vendor", "oracle")
    assert set(ids(check_settings(None))) == {"migration_route.W001"}


def test_django_runs_them(settings):
    """`manage.py check` finds them without being asked for a tag."""
    settings.MIGRATION_ROUTE = {"TYPO": 1}
    assert "migration_route.E001" in ids(checks.run_checks())


def test_checking_asks_no_database(settings):
    """They run where no database is there: this test may not use one."""
    settings.MIGRATION_ROUTE = {}
    assert check_settings(None) == []


@pytest.mark.parametrize("path", ["nowhere.at_all", "math.pi", "math.no_such_thing"])
def test_a_callable_that_cannot_be_had_is_a_warning(settings, path):
    """People are shut out meanwhile; an error would stop the runs of machines as well."""
    settings.MIGRATION_ROUTE = {"REAUTHENTICATE": path}
    (found,) = check_settings(None)
    assert found.id == "migration_route.W003"
    assert path in found.msg
    settings.MIGRATION_ROUTE = {"REAUTHENTICATE": "math.floor"}
    assert check_settings(None) == []
