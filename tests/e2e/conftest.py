"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.harness.site import Site, Sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


SLOW = {
    "test_fencing",
    "test_gentleness",
    "test_health",
    "test_health_of_a_server",
    "test_long_plan",
    "test_openapi",
    "test_phases",
    "test_pooler",
    "test_pools",
    "test_queues",
    "test_rehearsal",
    "test_rehearsal_in_place",
    "test_rehearsal_names",
    "test_sign_in_packages",
    "test_guarded_migrate",
    "test_windows",
    "test_zero_downtime_package",
}
"""Modules whose tests take more than about ten seconds each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the markers of end-to-end tests to every test in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.path.stem in SLOW:
                item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the databases that no end-to-end test ran on."""
    for vendor, reason in databases.missing().items():
        terminalreporter.write_line(
            f"skipped: every end-to-end test on {vendor} ({reason})", yellow=True
        )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Databases with the base migrations applied, from which copies are made."""
    prepared = Prepared(tmp_path_factory.mktemp("prepared"))
    yield prepared
    prepared.drop()


@pytest.fixture
def build(tmp_path: Path, prepared: Prepared) -> Iterator[Callable[..., Site]]:
    """Return the builder of sites; clean up what it has built afterwards."""
    with contextlib.ExitStack() as leftovers:
        yield _builder(Sites(tmp_path, prepared, leftovers))


def _builder(sites: Sites) -> Callable[..., Site]:
    def build(*arguments: object, **words: object) -> Site:
        try:
            return sites.build(*arguments, **words)  # type: ignore[arg-type]
        except databases.NotHere as reason:
            pair = arguments[0]
            if getattr(pair, "vendor", "") in databases.required():
                pytest.fail(f"required: {reason}")
            pytest.skip(str(reason))

    return build
