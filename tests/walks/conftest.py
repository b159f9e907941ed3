"""What do all walks share?"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.harness.site import Site, Sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


WALKS = "WALKS"
"""The variable that says on how many of its pairs a walk is walked: `all`, or `few`, which
is one of them, always the same, and not the same for all walks."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test of this folder as a walk, and keep as many of them as are wanted."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.walk)
    if os.environ.get(WALKS) == "few":
        left_out = [item for item in items if not _is_one_of_few(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_one_of_few(item: pytest.Item) -> bool:
    chosen = getattr(item, "callspec", None)
    pair = chosen.params.get("pair") if chosen else None
    if pair is None or item.get_closest_marker("walk") is None:
        return True
    pairs = next(
        marker.args[1]
        for marker in item.iter_markers("parametrize")
        if marker.args[0] == "pair"
    )
    name = getattr(item, "originalname", item.name)
    return bool(pair == pairs[zlib.crc32(name.encode()) % len(pairs)])


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
