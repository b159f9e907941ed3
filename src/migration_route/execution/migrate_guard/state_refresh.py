"""Refreshes the project state that Django's executor starts from.

`migrate` computes the state of the project before it sends `pre_migrate`. Where the guard
has waited in that signal, the state may be outdated. For that one call, and for no other,
the executor's `migrate` gets the state as it is now.
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
    """Runs the executor's work on one plan."""

    plan: Plan

    def carry(self, work: Callable[[], Any], *, mode: str) -> Any:
        """Run the work of the executor."""


_subscribers: list[PlanSubscriber] = []
# A finalizer may run in between, in the same thread.
_lock = threading.RLock()
_original: Any = MigrationExecutor.migrate


def subscribe(subscriber: PlanSubscriber) -> None:
    """Hand the next work on this plan, by any executor, to the subscriber."""
    with _lock:
        _subscribers.append(subscriber)
        if len(_subscribers) == 1:
            _wrap()


def unsubscribe(subscriber: PlanSubscriber) -> None:
    """Remove the subscriber; without subscribers, Django's executor is restored."""
    with _lock:
        if subscriber in _subscribers:
            _subscribers.remove(subscriber)
        if not _subscribers and getattr(
            MigrationExecutor.migrate, "is_of_the_guard", False
        ):
            setattr(MigrationExecutor, "migrate", _original)  # noqa: B010 - it is a method


def _wrap() -> None:
    global _original
    original = _original = MigrationExecutor.migrate

    @functools.wraps(original)
    def migrate(
        self: MigrationExecutor,
        targets: Any,
        plan: Plan | None = None,
        state: ProjectState | None = None,
        fake: bool = False,  # noqa: FBT001, FBT002 - Django's signature
        fake_initial: bool = False,  # noqa: FBT001, FBT002 - Django's signature
    ) -> Any:
        modes = {"fake": fake, "fake_initial": fake_initial}
        subscriber = _subscriber_of(plan)
        if subscriber is None or plan is None:
            return original(self, targets, plan=plan, state=state, **modes)

        def work() -> Any:
            now = refreshed_state(self, plan, state)
            return original(self, targets, plan=plan, state=now, **modes)

        mode = Mode.FAKE if fake else Mode.FAKE_INITIAL if fake_initial else Mode.APPLY
        return subscriber.carry(work, mode=mode)

    vars(migrate)["is_of_the_guard"] = True
    setattr(MigrationExecutor, "migrate", migrate)  # noqa: B010 - it is a method


def _subscriber_of(plan: Plan | None) -> PlanSubscriber | None:
    with _lock:
        return next((found for found in _subscribers if found.plan is plan), None)


def refreshed_state(
    executor: MigrationExecutor, plan: Plan, state: ProjectState | None
) -> ProjectState | None:
    """Return the state to start from, by the recorder as it is now.

    If nothing has changed, it is the state that was computed. Raises `CommandError` if the
    plan no longer fits what is applied.
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
            "Other migrations were applied or reverted while this command waited for the "
            "lock. Nothing was applied. Run migrate again."
        )
    known.applied_migrations = fresh.applied_migrations
    return executor._create_project_state(  # type: ignore[attr-defined,no-any-return]
        with_applied_migrations=True
    )


def _fits(plan: Plan, loader: MigrationLoader) -> bool:
    """Return whether the dependencies of each step are applied or are steps of the plan."""
    keys = {(migration.app_label, migration.name) for migration, _ in plan}
    for migration, backwards in plan:
        node = loader.graph.node_map[(migration.app_label, migration.name)]
        around = node.children if backwards else node.parents
        for other in around:
            is_applied = other.key in loader.applied_migrations
            if is_applied is backwards and other.key not in keys:
                return False
    return True
