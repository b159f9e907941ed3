"""Fixture that prepares the same project twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.harness import databases
from tests.harness.project import Options, Project
from tests.outcome.ways import BothWays

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.harness.database import Database

APPS = Path(__file__).parent / "apps"


class Prepare(Protocol):
    """Prepares a project and its empty databases, twice."""

    def __call__(
        self,
        vendor: str,
        options: Options,
        *,
        apps: Sequence[str] = (),
        aliases: Sequence[str] = ("default",),
    ) -> BothWays:
        """Copy `apps` into each project; create a database for each of `aliases`."""


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[Prepare]:
    """Return the function that prepares both projects; drop their databases afterwards."""
    made: list[Database] = []

    def database(vendor: str) -> Database:
        try:
            made.append(databases.create(vendor, tmp_path))
        except databases.NotHere as reason:
            if vendor in databases.required():
                pytest.fail(f"required: {reason}")
            pytest.skip(str(reason))
        return made[-1]

    def both(
        vendor: str,
        options: Options,
        *,
        apps: Sequence[str] = (),
        aliases: Sequence[str] = ("default",),
    ) -> BothWays:
        def project(name: str) -> Project:
            databases_of_its_own = {alias: database(vendor) for alias in aliases}
            found = Project(tmp_path / name, databases_of_its_own, options)
            for app in apps:
                shutil.copytree(
                    APPS / app,
                    found.folder / app,
                    ignore=shutil.ignore_patterns("__pycache__"),
                )
            return found

        return BothWays(django=project("django"), route=project("route"))

    yield both
    for each in made:
        each.drop()
