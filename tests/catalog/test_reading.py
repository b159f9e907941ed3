"""Tests that the catalog shows which operations of real migrations are present.

Each migration of Django's own apps and of the apps whose outcome is compared is executed
operation by operation on a real database; after every one the catalog is read.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import databases
from tests.harness.databases import VENDORS
from tests.harness.project import Options, Project
from tests.outcome import surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.database import Database

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.parametrize("vendor", VENDORS),
]

APPS = Path(__file__).parent.parent / "outcome" / "apps"
WALK = Path(__file__).with_name("operation_by_operation.py").read_text()


@pytest.fixture
def database(vendor: str, tmp_path: Path) -> Iterator[Database]:
    """Yield an empty database."""
    try:
        made = databases.create(vendor, tmp_path)
    except databases.NotHere as reason:
        if vendor in databases.required():
            pytest.fail(f"required: {reason}")
        pytest.skip(str(reason))
    yield made
    made.drop()


def walk(
    tmp_path: Path, database: Database, options: Options, folders: tuple[str, ...]
) -> None:
    """Execute everything forwards and backwards; return one line for each mismatch."""
    project = Project(tmp_path / "project", {"default": database}, options)
    for folder in folders:
        shutil.copytree(APPS / folder, project.folder / folder)
    project.write("walk.py", WALK)
    told = project.manage("shell", "--no-imports", "-c", "import walk; walk.main()")
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["surprises"] == []
    assert found["operations"] > 40
    assert found["known"] > found["operations"] / 2


def test_the_apps_of_the_outcome(tmp_path: Path, vendor: str, database: Database) -> None:
    """Squashed migrations, raw SQL, renamed models, tables between two models, concurrent
    indexes."""
    walk(tmp_path, database, surroundings.apps(vendor), surroundings.folders(vendor))
