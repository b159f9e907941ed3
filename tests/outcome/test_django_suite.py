"""Runs Django's own tests of migrations inside the worker's instrumentation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import databases

ROOT = Path(__file__).parent.parent.parent
TOOL = ROOT / "tools" / "run-django-suite"
CANNOT_BE_HAD = 3
LABELS = {"migrations", "migrations2", "migrate_signals"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("vendor", ["sqlite", "postgres"])
def test_djangos_own_suite_passes_while_it_is_observed(vendor: str) -> None:
    """Every test has the same outcome as without the instrumentation, and the observer
    misses nothing.

    Known exceptions are listed with their reasons in `tools/django_suite/exceptions.toml`;
    a listed test that passes is an error too.
    """
    if reason := databases.missing().get(vendor):
        if vendor in databases.required():
            pytest.fail(f"required: {reason}")
        pytest.skip(reason)

    answer = subprocess.run(
        [sys.executable, TOOL, "--database", vendor, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    if answer.returncode == CANNOT_BE_HAD:
        pytest.skip(answer.stderr.strip())
    assert answer.stdout, answer.stderr[-4000:]
    told = json.loads(answer.stdout)
    assert told["faults"] == [], answer.stderr[-8000:]
    assert answer.returncode == 0, answer.stderr[-8000:]
    assert set(told["labels"]) >= LABELS
    assert told["observed"]["passed"] > 600
    assert told["witness"]["steps failed"] > 0  # failing steps are among them
    assert told["observer"]["steps started"] == (
        told["observer"]["steps finished"] + told["witness"]["steps failed"]
    )
