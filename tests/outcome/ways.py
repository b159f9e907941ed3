"""Migrates the same project twice: with Django's `migrate` and with this package.

Each migration is a process of its own, started as a user would start it; that of this
package uses its public interface, with a real supervisor and a real worker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.outcome.outcome import OWN_APP, differences, read_outcome

if TYPE_CHECKING:
    from tests.harness.database import Database
    from tests.harness.project import Project

PATIENCE = 400  # seconds; hundreds of migrations on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class BothWays:
    """The same project twice: one is migrated by Django, the other by this package."""

    django: Project
    route: Project

    def migrate(self, target: str = "", *, database: str = "default") -> dict[str, Any]:
        """Migrate both to a target; return the run as the API reports it.

        This package installs its ledger before any run, so Django is made to do the same.
        """
        words = target.split(".", 1) if target else []
        if words and OWN_APP not in self._apps_of_django():
            self.django.manage("migrate", OWN_APP)
        self.django.manage("migrate", *words, "--database", database, timeout=PATIENCE)
        return apply(self.route, target, database=database)

    def differences(self, database: str = "default") -> list[str]:
        """List the differences between the two databases behind an alias."""
        django, route = self._databases(database)
        return differences(read_outcome(django), read_outcome(route))

    def _apps_of_django(self) -> set[str]:
        """Return the apps that are recorded in the database migrated by Django."""
        database = self.django.database
        if "django_migrations" not in database.tables():
            return set()
        return {app for (app,) in database.rows("SELECT app FROM django_migrations")}

    def _databases(self, alias: str) -> tuple[Database, Database]:
        return self.django.databases[alias], self.route.databases[alias]


def apply(
    project: Project, target: str = "", *, database: str = "default"
) -> dict[str, Any]:
    """Apply a target with this package, and return the run."""
    targets = [target] if target else []
    answer = project.manage(
        "migration_route",
        "apply",
        *targets,
        "--database",
        database,
        "--yes",
        "--json",
        check=False,
        timeout=PATIENCE,
    )
    told = answer.stdout + answer.stderr
    assert answer.returncode == 0, told[-4000:]
    run: dict[str, Any] = json.loads(answer.stdout)
    assert run["state"] in {"succeeded", "noop"}, told[-4000:]
    return run
