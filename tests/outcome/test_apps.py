"""Tests with squashed migrations, `run_before`, a custom user model, raw SQL, data
migrations, a concurrent index and a second database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.databases import VENDORS
from tests.outcome import surroundings

if TYPE_CHECKING:
    from tests.outcome.conftest import Prepare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.parametrize("vendor", VENDORS),
]


def test_everything_on_an_empty_database(prepare: Prepare, vendor: str) -> None:
    """Schema, recorder, content types, permissions and rows equal those of Django."""
    apps, folders = surroundings.apps(vendor), surroundings.folders(vendor)
    both = prepare(vendor, apps, apps=folders)

    run = both.migrate()

    assert both.differences() == []
    names = [(step["app"], step["name"]) for step in run["steps"]]
    assert ("library", "0001_squashed_0003_book_isbn") in names
    assert names.index(("loans", "0001_initial")) < names.index(("library", "0005_writers"))


def test_one_target_after_another(prepare: Prepare, vendor: str) -> None:
    """Migrate to a target, then to the end, which renames a model that already has its
    content type."""
    both = prepare(vendor, surroundings.apps(vendor), apps=surroundings.folders(vendor))
    for target in ("library.0004", "loans.0001", "library", ""):
        both.migrate(target)

        assert both.differences() == [], target


def test_replaced_migrations_one_by_one(prepare: Prepare, vendor: str) -> None:
    """Stop halfway through the migrations that a squashed one replaces, then continue."""
    both = prepare(vendor, surroundings.apps(vendor), apps=surroundings.folders(vendor))
    for target in ("library.0001_initial", "library.0002", "library.0003", ""):
        both.migrate(target)

        assert both.differences() == [], target


@pytest.mark.parametrize("target", ["library.zero", "loans.zero", "library.0004"])
def test_backwards_and_forwards_again(prepare: Prepare, vendor: str, target: str) -> None:
    """Reversing leaves what Django leaves, and so does applying again."""
    both = prepare(vendor, surroundings.apps(vendor), apps=surroundings.folders(vendor))
    both.migrate()

    backwards = both.migrate(target)
    assert both.differences() == []
    both.migrate()

    assert backwards["outcome"] == "reverted"
    assert both.differences() == []


def test_two_databases_with_a_router(prepare: Prepare, vendor: str) -> None:
    """Each database gets what its router allows."""
    both = prepare(
        vendor,
        surroundings.apps(vendor, router=True),
        apps=surroundings.folders(vendor),
        aliases=("default", "other"),
    )
    for alias in ("default", "other"):
        both.migrate(database=alias)
    for alias in ("default", "other"):
        assert both.differences(alias) == [], alias
    assert "archive_box" in both.route.databases["other"].tables()
    assert "archive_box" not in both.route.databases["default"].tables()

    both.migrate("archive.zero", database="other")
    assert both.differences("other") == []
