"""Is what Django is about to do exactly what was permitted?

Asked before the first statement, with the whole plan in hand, and again at every step.
"""

from __future__ import annotations

from django.db.migrations import Migration

from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.fingerprint import fingerprint_of, same_plan
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import (
    MigrationPlan,
    countable,
    describe,
    make_plan,
    without_own_app,
)
from migration_route.running.messages import Order
from migration_route.vocabulary import Direction, Mode


class PlanDiffers(Exception):
    """What would be done is not what was permitted."""


class Expectation:
    """The steps of an order, each to come once and in this order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._begun = 0
        self._checked = False

    @property
    def database(self) -> str:
        """Return the alias that the order is for."""
        return self._order.database

    @property
    def done_operations(self) -> int | None:
        """Return how many operations of the step that has just begun are carried out
        already; None where it begins at its beginning."""
        return self._order.done_operations if self._begun == 1 else None

    def check_plan(self, plan: MigrationPlan) -> None:
        """Hold Django's plan of one `migrate` against the order.

        Raises `PlanDiffers` before anything has been sent.
        """
        migrations = without_own_app(plan, self._order.database)
        if not self._checked:
            self._check_whole(migrations)
            self._checked = True
        expected = self._order.steps[self._begun : self._begun + len(migrations)]
        found = [(migration.app_label, migration.name) for migration, _ in migrations]
        if [(app, name) for app, name, _ in expected] != found:
            raise PlanDiffers(
                f"Django would now carry out {_listed(found)}; "
                f"permitted is {_listed([(app, name) for app, name, _ in expected])}."
            )

    def _check_whole(self, migrations: MigrationPlan) -> None:
        """Compare the fingerprint of everything that would be done, from here and now."""
        order = self._order
        if len(order.targets) > 1:
            request = PlanRequest(
                database=order.database, targets=order.targets, mode=Mode(order.mode)
            )
            found = make_plan(request)[0].fingerprint
        else:
            found = self._fingerprint(migrations)
        if not same_plan(found, order.fingerprint):
            raise PlanDiffers(
                "The plan has changed since it was read: now it is "
                f"{_listed([(m.app_label, m.name) for m, _ in migrations])}, "
                "or its sources or what is applied have changed."
            )

    def _fingerprint(self, migrations: MigrationPlan) -> str:
        order = self._order
        return fingerprint_of(
            database=order.database,
            targets=order.targets,
            direction=Direction(order.direction) if migrations else Direction.NONE,
            mode=Mode(order.mode),
            steps=[
                describe(migration, backwards, order.database)
                for migration, backwards in migrations
            ],
            applied=countable(graphs.read_recorder(order.database), order.database),
            build=sources.build(),
            place=sources.place(),
        )

    def begin(self, migration: Migration, *, backwards: bool) -> None:
        """Let the next step of the order begin. Raises `PlanDiffers` for any other."""
        steps = self._order.steps
        key = (migration.app_label, migration.name)
        direction = Direction.BACKWARDS if backwards else Direction.FORWARDS
        if (
            self._begun >= len(steps)
            or steps[self._begun][:2] != key
            or direction != self._order.direction
        ):
            raise PlanDiffers(f"{key[0]}.{key[1]} is not the step that was permitted next.")
        if sources.source_digest(type(migration).__module__) != steps[self._begun][2]:
            raise PlanDiffers(f"The source of {key[0]}.{key[1]} has changed.")
        self._begun += 1


def _listed(keys: list[tuple[str, str]]) -> str:
    return ", ".join(f"{app}.{name}" for app, name in keys) or "nothing"
