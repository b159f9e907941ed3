"""Tests that a missing package is skipped by name, and is an error where it is required."""

from __future__ import annotations

import pytest

from tests.harness import packages

MISSING = "django-migration-route-missing"


def test_a_missing_package_is_skipped_by_name(monkeypatch):
    monkeypatch.delenv(packages.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match=MISSING):
        packages.require(MISSING)


@pytest.mark.parametrize("required", ["all", MISSING, f"django, {MISSING.upper()}"])
def test_a_missing_package_that_is_required_fails(monkeypatch, required):
    """`all` requires every package, a list only those it names."""
    monkeypatch.setenv(packages.REQUIRED, required)
    with pytest.raises(pytest.fail.Exception, match=MISSING):
        packages.require(MISSING)


def test_a_package_that_no_requirement_installs_here_is_not_required(monkeypatch):
    """`all` means what the requirements install on this platform."""
    monkeypatch.setenv(packages.REQUIRED, "all")
    monkeypatch.setitem(packages.NOT_EVERYWHERE, MISSING, False)
    with pytest.raises(pytest.skip.Exception, match=MISSING):
        packages.require(MISSING)


def test_an_installed_package_gives_its_version():
    """Django is always installed."""
    assert packages.require("django")
