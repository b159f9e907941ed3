"""By which two ways does a project come to its tables?

Each is a process of its own, started as a person would start it; the route's goes
through its door, with a real supervisor and a real worker.
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
    """The same project twice: one is migrated by Django, the other on the route."""

    django: Project
    route: Project

    def migrate(self, target: str = "", *, database: str = "default") -> dict[str, Any]:
        """Go to a target by both ways; give the run as the route told it.

        The route installs its ledger before any run, so Django is made to do the same.
        """
        words = target.split(".", 1) if target else []
        if words and OWN_APP not in self._apps_of_django():
            self.django.manage("migrate", OWN_APP)
        self.django.manage("migrate", *words, "--database", database, timeout=PATIENCE)
        return apply(self.route, target, database=database)

    def differences(self, database: str = "default") -> list[str]:
        """Say in what the two databases behind an alias differ."""
        django, route = self._databases(database)
        return differences(read_outcome(django), read_outcome(route))

    def _apps_of_django(self) -> set[str]:
        """Name the apps that are recorded where Django has migrated."""
        database = self.django.database
        if "django_migrations" not in database.tables():
            return set()
        return {app for (app,) in database.rows("SELECT app FROM django_migrations")}

    def _databases(self, alias: str) -> tuple[Database, Database]:
        return self.django.databases[alias], self.route.databases[alias]


def apply(
    project: Project, target: str = "", *, database: str = "default"
) -> dict[str, Any]:
    """Carry out what a target asks for on the route, and give the run."""
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
