"""Tests of the system checks."""

from __future__ import annotations

import pytest
from django.core import checks
from django.db import connections

from migration_route.checks import check_settings


def ids(messages: list[checks.CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def test_good_settings_say_nothing():
    assert check_settings(None) == []


def test_every_problem_is_an_error(settings):
    """Three problems are reported as three errors."""
    settings.MIGRATION_ROUTE = {"HEARTBEAT_TIMEOUT": 5, "LAUNCHER": "x", "TYPO": 1}
    found = check_settings(None)
    assert ids(found) == ["migration_route.E001"] * 3
    assert all(message.is_serious() and message.hint for message in found)


def test_a_database_that_cannot_be_locked_is_a_warning(monkeypatch):
    """The package works for the other databases."""
    monkeypatch.setattr(type(connections["other"]), "vendor", "oracle")
    assert set(ids(check_settings(None))) == {"migration_route.W001"}


def test_django_runs_them(settings):
    """`manage.py check` runs them without a tag."""
    settings.MIGRATION_ROUTE = {"TYPO": 1}
    assert "migration_route.E001" in ids(checks.run_checks())


def test_checking_asks_no_database(settings):
    """The checks run where no database is available: this test may not use one."""
    settings.MIGRATION_ROUTE = {}
    assert check_settings(None) == []


@pytest.mark.parametrize("path", ["nowhere.at_all", "math.pi", "math.no_such_thing"])
def test_a_callable_that_cannot_be_had_is_a_warning(settings, path):
    """Only users are refused meanwhile; an error would stop the runs of machine tokens
    too."""
    settings.MIGRATION_ROUTE = {"REAUTHENTICATION": path}
    (found,) = check_settings(None)
    assert found.id == "migration_route.W003"
    assert path in found.msg
    settings.MIGRATION_ROUTE = {"REAUTHENTICATION": "math.floor"}
    assert check_settings(None) == []
