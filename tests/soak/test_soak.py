"""A short soak test, and tests that its checks detect violations."""

from __future__ import annotations

import pytest

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.soak.soak import Heard, accounts, soak

RUNS = 20


def run(number, start, end, state="succeeded"):
    """Return a run as the API does."""
    return {
        "id": f"run-{number}",
        "state": state,
        "error": None,
        "started_at": start,
        "finished_at": end,
    }


ONE, TWO = run(1, "10:00", "10:01"), run(2, "10:01", "10:02")
BUSY = {"code": "active_run", "run": "run-1"}


@pytest.mark.parametrize(
    ("runs", "heard", "word"),
    [
        ([ONE, TWO], Heard(["run-1"]), "never accepted"),
        ([ONE], Heard(["run-1", "run-2"]), "not on record"),
        ([ONE], Heard(["run-1", "run-1"]), "not on record"),
        ([ONE], Heard(["run-1"], [{**BUSY, "run": "run-9"}]), "refused because of run-9"),
        ([run(1, "10:00", "10:01", "failed")], Heard(["run-1"]), "ended as failed"),
        ([TWO, run(1, "10:00", "10:01:30")], Heard(["run-1", "run-2"]), "same time"),
    ],
)
def test_what_does_not_add_up_is_named(runs, heard, word):
    """An answer without a run, a run without an answer, a wrong end state, two at a
    time."""
    found = accounts(runs, heard)
    assert len(found) == 1
    assert word in found[0]


def test_what_adds_up_is_left_alone():
    """Runs one after the other, each requested once, and a refusal that names one."""
    assert accounts([TWO, ONE], Heard(["run-1", "run-2"], [BUSY])) == []


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(900)
@pytest.mark.parametrize("vendor", databases.VENDORS)
def test_a_short_soak_leaves_every_run_accounted_for(vendor, tmp_path):
    """Four clients on two servers, forwards and backwards: one run at a time, and no
    leftovers."""
    if vendor in (missing := databases.missing()):
        if vendor in databases.required():
            pytest.fail(f"required: {missing[vendor]}")
        pytest.skip(missing[vendor])
    prepared = Prepared(tmp_path)
    try:
        came = soak(vendor, tmp_path / "soak", prepared, runs=RUNS)
    finally:
        prepared.drop()
    assert came.runs >= RUNS
    assert came.violations == []
