"""Prepares a project's database once, and copies it for each end-to-end test.

The base migrations are applied, and the users created, once for each kind of database;
every test then works on a copy. This package is not yet installed there: a test covers its
installation.
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
    """Databases with the base migrations applied, from which copies are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.originals: dict[tuple[str, bool], Database] = {}

    def copy(self, vendor: str, folder: Path, *, custom_user: bool = False) -> Database:
        """Return a copy of the database of this kind that the project already uses."""
        key = (vendor, custom_user)
        if key not in self.originals:
            self.originals[key] = self._make(vendor, custom_user=custom_user)
        return self.originals[key].copy(folder)

    def drop(self) -> None:
        """Drop the originals."""
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
