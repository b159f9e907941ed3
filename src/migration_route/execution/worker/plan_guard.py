"""Compares what Django is about to do with the order: the whole plan before the first
statement, and each step again when it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.migrations import Migration

from migration_route.core.enums import Direction, Mode, Phase
from migration_route.execution.messages import WorkOrder
from migration_route.ledger.step_evidence import AddedOperations
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.phases import MigrationPlan
from migration_route.planning.plan import PlanRequest, fingerprint_of, same_plan
from migration_route.planning.planner import (
    applied_for_fingerprint,
    describe,
    make_plan,
    without_own_app,
)


class PlanMismatch(Exception):
    """Django's plan is not the permitted plan."""


InOrder = Callable[[str, MigrationPlan], MigrationPlan]
"""Returns a plan for a database in the order of its execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumedStep:
    """How far an earlier run got with the step that this one resumes."""

    done: int  # operations of the migration's source, in the order of execution
    added: AddedOperations  # those of other packages, as that run found them


class PlanGuard:
    """The steps of an order, each to run once and in this order."""

    def __init__(self, order: WorkOrder, in_order_of_execution: InOrder) -> None:
        self._order = order
        self._in_order = in_order_of_execution
        self._started = 0
        self._checked = False
        self._left_out: list[tuple[str, str, str]] = []

    @property
    def resumed(self) -> ResumedStep | None:
        """What is already complete of the step that has just started; None if it starts at
        its first operation."""
        done = self._order.done_operations if self._started == 1 else None
        return None if done is None else ResumedStep(done=done, added=self._order.added)

    def check_plan(self, plan: MigrationPlan) -> None:
        """Compare Django's plan for one `migrate` with the order. If the order is for one
        phase, remove from the plan, in place, what that phase leaves out.

        Raises `PlanMismatch` before anything has been sent.
        """
        if self._order.phase:
            self._narrow(plan)
        ordered = self._in_order(self._order.database, plan)
        migrations = without_own_app(ordered, self._order.database)
        if not self._checked:
            self._check_whole(migrations)
            self._checked = True
        expected = self._order.steps[self._started : self._started + len(migrations)]
        found = [(migration.app_label, migration.name) for migration, _ in migrations]
        if [(app, name) for app, name, _ in expected] != found:
            raise PlanMismatch(
                f"Django would now run {_listed(found)}; the approved plan runs "
                f"{_listed([(app, name) for app, name, _ in expected])}."
            )

    def _narrow(self, plan: MigrationPlan) -> None:
        """Remove the steps that the order leaves out: exactly these, in this order."""
        left = [(app, name) for app, name, _ in self._order.left_out]
        ordered = self._in_order(self._order.database, plan)
        keys = [(migration.app_label, migration.name) for migration, _ in ordered]
        found = [key for key in keys if key in set(left)]
        if found != left:
            raise PlanMismatch(
                f"Django would now leave out {_listed(found)}; "
                f"the approved plan leaves out {_listed(left)}."
            )
        self._left_out = [
            (migration.app_label, migration.name, source_of(migration))
            for migration, _ in ordered
            if (migration.app_label, migration.name) in found
        ]
        plan[:] = [
            (migration, backwards)
            for migration, backwards in plan
            if (migration.app_label, migration.name) not in found
        ]

    def _check_whole(self, migrations: MigrationPlan) -> None:
        """Compare the fingerprint of the whole plan, computed here and now."""
        order = self._order
        if len(order.targets) > 1:
            request = PlanRequest(
                database=order.database, targets=order.targets, mode=Mode(order.mode)
            )
            found = make_plan(request)[0].fingerprint
        else:
            found = self._fingerprint(migrations)
        if not same_plan(found, order.fingerprint):
            raise PlanMismatch(
                "The plan has changed since it was requested. It is now "
                f"{_listed([(m.app_label, m.name) for m, _ in migrations])}, "
                "or its sources or the applied migrations have changed."
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
            applied=applied_for_fingerprint(
                graphs.read_recorder(order.database), order.database
            ),
            build=sources.build(),
            place=sources.place(),
            phase=Phase(order.phase) if order.phase else None,
            left_out=self._left_out,
        )

    def begin(self, migration: Migration, *, backwards: bool) -> None:
        """Accept the next step of the order. Raises `PlanMismatch` for any other."""
        steps = self._order.steps
        key = (migration.app_label, migration.name)
        direction = Direction.BACKWARDS if backwards else Direction.FORWARDS
        if (
            self._started >= len(steps)
            or steps[self._started][:2] != key
            or direction != self._order.direction
        ):
            raise PlanMismatch(
                f"{key[0]}.{key[1]} is not the next step of the approved plan."
            )
        if source_of(migration) != steps[self._started][2]:
            raise PlanMismatch(f"The source of {key[0]}.{key[1]} has changed.")
        self._started += 1


def require_same_additions(
    migration: Migration, met: AddedOperations, found: AddedOperations
) -> None:
    """Raise `PlanMismatch` if the operations that run now are not those of the earlier run
    of this migration: its recorded numbers would refer to other operations."""
    if not found.is_matched or found.places != met.places:
        raise PlanMismatch(
            f"{migration.app_label}.{migration.name} cannot be resumed: a package that "
            "changes its operations in pre_migrate changed them differently than in the "
            "run that stopped, so it is unknown which of them were executed. Complete the "
            "migration by hand, then resolve the run as applied."
        )


def source_of(migration: Migration) -> str:
    """Return the digest of a migration's source as it is on disk."""
    return sources.source_digest(type(migration).__module__)


def _listed(keys: list[tuple[str, str]]) -> str:
    return ", ".join(f"{app}.{name}" for app, name in keys) or "nothing"
