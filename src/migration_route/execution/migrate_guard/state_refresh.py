"""What does Django's executor start from, when the world went on before it began?

`migrate` computes the state of the project before it sends its signal. Where the guard has
waited in that signal, the state is behind. For that one call, and for no other, the
executor's `migrate` is given the state as it is now.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Protocol

from django.core.management.base import CommandError
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from migration_route.core.enums import Mode

Plan = list[tuple[Migration, bool]]


class PlanSubscriber(Protocol):
    """Somebody who waits for the executor to be given a plan."""

    alias: str
    plan: Plan

    def carry(self, work: Callable[[], Any], *, mode: str) -> Any:
        """Let the executor work."""


_expected: list[PlanSubscriber] = []
# A finaliser may come in between, in the same thread.
_lock = threading.RLock()
_usual: Any = MigrationExecutor.migrate


def subscribe(somebody: PlanSubscriber) -> None:
    """Hand the next work on this plan, by whichever executor, to somebody."""
    with _lock:
        _expected.append(somebody)
        if len(_expected) == 1:
            _wrap()


def unsubscribe(somebody: PlanSubscriber) -> None:
    """Expect it no longer; the last one leaves Django's executor as it was."""
    with _lock:
        if somebody in _expected:
            _expected.remove(somebody)
        if not _expected and getattr(MigrationExecutor.migrate, "is_of_the_guard", False):
            setattr(MigrationExecutor, "migrate", _usual)  # noqa: B010 - it is a method


def _wrap() -> None:
    global _usual
    usual = _usual = MigrationExecutor.migrate

    @functools.wraps(usual)
    def migrate(
        self: MigrationExecutor,
        targets: Any,
        plan: Plan | None = None,
        state: ProjectState | None = None,
        fake: bool = False,  # noqa: FBT001, FBT002 - Django's signature
        fake_initial: bool = False,  # noqa: FBT001, FBT002 - Django's signature
    ) -> Any:
        modes = {"fake": fake, "fake_initial": fake_initial}
        somebody = _who_expects(plan)
        if somebody is None or plan is None:
            return usual(self, targets, plan=plan, state=state, **modes)

        def work() -> Any:
            now = refreshed_state(self, plan, state)
            return usual(self, targets, plan=plan, state=now, **modes)

        mode = Mode.FAKE if fake else Mode.FAKE_INITIAL if fake_initial else Mode.APPLY
        return somebody.carry(work, mode=mode)

    vars(migrate)["is_of_the_guard"] = True
    setattr(MigrationExecutor, "migrate", migrate)  # noqa: B010 - it is a method


def _who_expects(plan: Plan | None) -> PlanSubscriber | None:
    with _lock:
        return next((found for found in _expected if found.plan is plan), None)


def refreshed_state(
    executor: MigrationExecutor, plan: Plan, state: ProjectState | None
) -> ProjectState | None:
    """Return the state to start from, as the recorder is now.

    Where nothing has changed it is the one that was computed. Raises `CommandError` where
    the plan does not fit what is applied any more.
    """
    known = executor.loader
    fresh = MigrationLoader(
        executor.connection,
        replace_migrations=known.replace_migrations,  # type: ignore[attr-defined]
    )
    if set(fresh.applied_migrations) == set(known.applied_migrations):
        return state
    if set(fresh.graph.nodes) != set(known.graph.nodes) or not _fits(plan, fresh):
        raise CommandError(
            "While this command waited, other migrations were applied or reverted than "
            "those that it was going to. Nothing was applied: type it again."
        )
    known.applied_migrations = fresh.applied_migrations
    return executor._create_project_state(  # type: ignore[attr-defined,no-any-return]
        with_applied_migrations=True
    )


def _fits(plan: Plan, loader: MigrationLoader) -> bool:
    """Tell whether each step stands on what is applied, or on another step."""
    keys = {(migration.app_label, migration.name) for migration, _ in plan}
    for migration, backwards in plan:
        node = loader.graph.node_map[(migration.app_label, migration.name)]
        around = node.children if backwards else node.parents
        for other in around:
            is_applied = other.key in loader.applied_migrations
            if is_applied is backwards and other.key not in keys:
                return False
    return True
