"""What do all walks share?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.harness.site import Site, Sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_WALK = 150


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as a walk, and bound its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.walk)
            item.add_marker(pytest.mark.timeout(LONGEST_WALK))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the databases that nobody walked on."""
    for vendor, reason in databases.missing().items():
        terminalreporter.write_line(
            f"skipped: every walk on {vendor} ({reason})", yellow=True
        )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Databases with the base migrations applied, to make copies of."""
    prepared = Prepared(tmp_path_factory.mktemp("prepared"))
    yield prepared
    prepared.drop()


@pytest.fixture
def build(tmp_path: Path, prepared: Prepared) -> Iterator[Callable[..., Site]]:
    """Give the builder of sites; what it has built is put away afterwards."""
    sites = Sites(tmp_path, prepared)

    def build(*arguments: object, **words: object) -> Site:
        try:
            return sites.build(*arguments, **words)  # type: ignore[arg-type]
        except databases.NotHere as reason:
            pair = arguments[0]
            if getattr(pair, "vendor", "") in databases.required():
                pytest.fail(f"required: {reason}")
            pytest.skip(str(reason))

    yield build
    sites.put_away()
