"""Tests that PostgreSQL does nothing to a table that is not in the forecast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.forecasts.cases import Case, cases
from tests.forecasts.database import a_database
from tests.forecasts.observation import outcomes
from tests.forecasts.verdicts import Verdict, verdicts_on
from tests.harness import databases

pytestmark = pytest.mark.slow

CASES = cases()
# The forecast does not parse function bodies; the server's planner chooses the scans.
STRONGER = {
    "RunSQL, a block",
    "RunSQL, insert, child",
    "RunSQL, reset of a sequence",
}


@pytest.fixture(scope="module")
def alias(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[str]:
    """Yield the alias of a database that these tests may change freely."""
    if reason := databases.missing().get("postgres"):
        pytest.skip(reason)
    with (
        django_db_blocker.unblock(),
        a_database(tmp_path_factory.mktemp("forecasts")) as found,
    ):
        yield found


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_nothing_is_foretold_weaker_than_it_is(case: Case, filled: bool, alias: str):
    """Locks are compared by their conflicts, rewrites by the files, scans by the
    statistics. On filled tables the forecast is not stronger either, except for
    `STRONGER`."""
    if filled not in case.fills:
        pytest.skip("There is nothing to see on an empty table.")
    found = verdicts_on(outcomes(alias, case, filled=filled))
    assert not found.weaker
    if filled and case.name not in STRONGER:
        assert {found.locks, found.rewrites, found.scans} == {Verdict.HIT}


def test_the_operations_are_many_and_each_has_a_name():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 40
