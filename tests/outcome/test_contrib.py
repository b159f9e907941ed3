"""Outcome tests with Django's own apps."""

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
    """The two databases differ only in the order of this package's own rows."""
    both = prepare(vendor, surroundings.contrib())

    run = both.migrate()

    assert both.differences() == []
    assert len(run["steps"]) > 20


@pytest.mark.parametrize("app", ["admin", "auth", "contenttypes"])
def test_to_zero_and_back_again(prepare: Prepare, vendor: str, app: str) -> None:
    """Reversing an app with its dependents leaves what Django leaves; applying again
    restores everything."""
    both = prepare(vendor, surroundings.contrib())
    both.migrate()

    backwards = both.migrate(f"{app}.zero")
    assert both.differences() == []
    both.migrate()

    assert backwards["outcome"] == "reverted"
    assert both.differences() == []
