"""How does a walk get a project whose database is already in use, quickly?

The base migrations are applied, and the people made, once for each kind of database;
every walk then works on a copy. The route is not yet installed there: a walk sees it
come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness import databases
from tests.harness.project import PASSWORD, PEOPLE, Options, Project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.database import Database

MAKE_PEOPLE = f"""
from django.contrib.auth import get_user_model
for name in {PEOPLE!r}:
    get_user_model().objects.create_user(
        name,
        password={PASSWORD!r},
        is_staff=name != "visitor",
        is_superuser=name == "boss",
    )
"""


class Prepared:
    """Databases with the base migrations applied, to make copies of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.originals: dict[tuple[str, bool], Database] = {}

    def copy(self, vendor: str, folder: Path, *, custom_user: bool = False) -> Database:
        """Give a database of this kind in which the project has been at work."""
        key = (vendor, custom_user)
        if key not in self.originals:
            self.originals[key] = self._make(vendor, custom_user=custom_user)
        return self.originals[key].copy(folder)

    def drop(self) -> None:
        """Remove the originals."""
        for original in self.originals.values():
            original.drop()

    def _make(self, vendor: str, *, custom_user: bool) -> Database:
        name = f"{vendor}-accounts" if custom_user else vendor
        database = databases.create(vendor, self.folder)
        project = Project(
            self.folder / name,
            {"default": database},
            Options(adopted=False, custom_user=custom_user),
        )
        project.manage("migrate", "--verbosity", "0")
        project.python(MAKE_PEOPLE)
        return database
