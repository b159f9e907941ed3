"""Samples of the sweep; `make sweep` runs all of it."""

from __future__ import annotations

import pytest

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.sweep.points import FROZEN, PARTITIONED, TARGETS
from tests.sweep.sweep import Choice, details, sweep

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.mark.parametrize("vendor", databases.VENDORS)
def test_a_sample_of_kills_leaves_nothing_untrue(vendor, tmp_path):
    """After each kill the run's report is true, the recovery reaches the same outcome, and
    nothing is left behind."""
    found = sample(vendor, Choice(targets=TARGETS, every=40), tmp_path)
    targets = {result.point.target for result in found}
    assert targets == set(TARGETS if vendor != "sqlite" else TARGETS[:2])
    assert details({vendor: found}) == []


@pytest.mark.parametrize("vendor", databases.VENDORS[1:])
def test_a_sample_of_interrupted_hosts_comes_back_in_vain(vendor, tmp_path):
    """A host that is cut off or frozen at any instant changes nothing when it comes back
    after another host has concluded its run and continued."""
    choice = Choice(targets=(), strikes=(PARTITIONED, FROZEN), every=40)
    found = sample(vendor, choice, tmp_path)
    assert {result.point.strike for result in found} == {PARTITIONED, FROZEN}
    assert details({vendor: found}) == []


def sample(vendor, choice, folder):
    """Strike at some points, on an available database."""
    if vendor in (missing := databases.missing()):
        if vendor in databases.required():
            pytest.fail(f"required: {missing[vendor]}")
        pytest.skip(missing[vendor])
    prepared = Prepared(folder)
    try:
        return sweep(vendor, choice, folder, prepared)
    finally:
        prepared.drop()
