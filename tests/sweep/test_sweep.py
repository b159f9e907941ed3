"""Does a sample of the kill sweep find nothing? The whole of it is `make sweep`."""

from __future__ import annotations

import pytest

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.sweep.points import TARGETS
from tests.sweep.sweep import Choice, details, sweep

pytestmark = [pytest.mark.slow, pytest.mark.walk, pytest.mark.timeout(900)]


@pytest.mark.parametrize("vendor", databases.VENDORS)
def test_a_sample_of_kills_leaves_nothing_untrue(vendor, tmp_path):
    """After each kill the run reads as it is, the way on leads to the same end, and
    nothing is left behind."""
    if vendor in (missing := databases.missing()):
        if vendor in databases.required():
            pytest.fail(f"required: {missing[vendor]}")
        pytest.skip(missing[vendor])
    prepared = Prepared(tmp_path)
    try:
        found = sweep(vendor, Choice(targets=TARGETS, every=40), tmp_path, prepared)
    finally:
        prepared.drop()
    targets = {result.point.target for result in found}
    assert targets == set(TARGETS if vendor != "sqlite" else TARGETS[:2])
    assert details({vendor: found}) == []
