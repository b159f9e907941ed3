"""Run Django's `runtests.py` in this process, inside the worker's instrumentation.


    suite_driver.py OUTPUT observed|alone ARGUMENTS OF runtests.py ...

The working directory is the folder of `runtests.py`. The result of each test, and the
counts of the observer and of an independent witness, are written to OUTPUT as JSON.
"""

from __future__ import annotations

import functools
import json
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import suite_runner
from django.db.migrations import Migration, executor, graph, state
from django.db.migrations import loader as loader_module
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.execution.worker.instrumentation import (
    MigrationObserver,
    instrument,
    run_once,
)
from migration_route.execution.worker.operation_positions import (
    Layout,
    OperationPosition,
    layout_of,
)
from migration_route.planning.lazy_states import LazyProjectState

METHODS = ("database_forwards", "database_backwards")


class Counting(MigrationObserver):
    """An observer that counts events, and records the operations that it observes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.operations: dict[int, Operation] = {}

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        del state, backwards
        self.counts["steps started"] += 1
        self.operations |= {id(operation): operation for operation in migration.operations}

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        del migration, duration_ms
        self.counts["steps finished"] += 1

    def operation_started(self, position: int | None, operation: Operation) -> None:
        del position, operation
        self.counts["operations started"] += 1

    def operation_finished(self, position: int | None, duration_ms: int) -> None:
        del position, duration_ms
        self.counts["operations finished"] += 1

    def operation_begins(self, place: OperationPosition, operation: Operation) -> None:
        del place, operation
        self.counts["operations begun alone"] += 1

    def operation_returns(self, place: OperationPosition, duration_ms: int) -> None:
        del place, duration_ms
        self.counts["operations returned alone"] += 1

    def step_ends(self, place: OperationPosition) -> None:
        del place
        self.counts["ends reached"] += 1

    def statement_starts(self, sql: str) -> None:
        del sql
        self.counts["statements started"] += 1

    def statement_finished(
        self, sql: str, duration_ms: int, error: Exception | None
    ) -> None:
        del sql, duration_ms
        self.counts["statements failed" if error else "statements finished"] += 1

    def left_behind(self) -> int:
        """Count the operations that are still wrapped."""
        return sum(
            getattr(vars(operation).get(method), "__wrapped__", None) is not None
            for operation in self.operations.values()
            for method in METHODS
        )


def as_written(migration: Migration) -> Layout:
    """Return the layout of a migration that a test has created in memory: nothing is
    added."""
    return layout_of(migration.operations, migration.operations)


@contextmanager
def witnessed(counts: Counter[str]) -> Iterator[None]:
    """Count the steps of every executor independently of the instrumentation under test."""
    names = ("apply_migration", "unapply_migration")
    usual = {name: getattr(MigrationExecutor, name) for name in names}

    def counting(run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def counted(*args: Any, **kwargs: Any) -> Any:
            counts["steps called"] += 1
            try:
                result = run(*args, **kwargs)
            except BaseException:
                counts["steps failed"] += 1
                raise
            counts["steps returned"] += 1
            return result

        return counted

    for name, run in usual.items():
        setattr(MigrationExecutor, name, counting(run))
    try:
        yield
    finally:
        for name, run in usual.items():
            setattr(MigrationExecutor, name, run)


def use_lazy_states() -> None:
    """Replace the states that executors and tests create."""
    for module in (state, executor, graph, loader_module):
        if hasattr(module, "ProjectState"):
            module.ProjectState = LazyProjectState  # type: ignore[attr-defined]


def main() -> None:
    """Run the suite; end with the exit code of `runtests.py`."""
    output, way, *arguments = sys.argv[1:]
    sys.argv = ["runtests.py", *arguments]
    sys.path[0] = str(Path.cwd())  # where `runtests.py` expects it
    sys.path.append(str(Path(__file__).parent))
    counting, seen = Counting(), Counter[str]()
    before = vars(MigrationExecutor).copy()
    try:
        watched = instrument([counting], run_once, as_written)
        with witnessed(seen), watched if way == "observed" else nullcontext():
            if way == "observed":
                use_lazy_states()
            runpy.run_path("runtests.py", run_name="__main__")
    finally:
        told = {
            "tests": suite_runner.OUTCOMES,
            "observer": counting.counts,
            "witness": seen,
            "left_behind": counting.left_behind() + (before != vars(MigrationExecutor)),
        }
        Path(output).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
