"""Applies and reverts migrations, and records what they send and what they leave; and
shorthand for their operations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connections, models
from django.db.migrations import CreateModel, Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState

from migration_route.planning import states
from migration_route.planning.lazy_states import LazyProjectState
from tests.factories import tables

APP = "lazy"
Steps = list[list[Operation]]


def create(
    name: str, *fields: tuple[str, models.Field[Any, Any]], **words: Any
) -> Operation:
    """Return the operation that creates a model with an integer key, unless it has one."""
    keyed = any(field.primary_key for _, field in fields) or "bases" in words
    key = [] if keyed else [("id", models.AutoField(primary_key=True))]
    return CreateModel(name, [*key, *fields], **words)


def foreign(to: str, **words: Any) -> models.ForeignKey[Any, Any]:
    words = {"on_delete": models.CASCADE, "null": True, **words}
    return models.ForeignKey(f"{APP}.{to}", **words)


def one_to_one(to: str, **words: Any) -> models.OneToOneField[Any, Any]:
    return models.OneToOneField(f"{APP}.{to}", on_delete=models.CASCADE, **words)


def text(**words: Any) -> models.CharField[Any, Any]:
    return models.CharField(max_length=20, **{"default": "", **words})


class Together(Operation):
    """Consists of other operations, which it runs on states of its own."""

    reduces_to_sql = True

    def __init__(self, *inner: Operation) -> None:
        self.inner = inner

    def state_forwards(self, app_label: str, state: Any) -> None:
        for operation in self.inner:
            operation.state_forwards(app_label, state)

    def _states(self, app: str, state: Any) -> Iterator[tuple[Operation, Any, Any]]:
        for operation in self.inner:
            after = state.clone()
            operation.state_forwards(app, after)
            yield operation, state, after
            state = after

    def database_forwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        for operation, start, end in self._states(app, before):
            operation.database_forwards(app, editor, start, end)

    def database_backwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        for operation, start, end in reversed(list(self._states(app, after))):
            operation.database_backwards(app, editor, end, start)


def migrations_of(steps: Steps) -> list[Migration]:
    made = []
    for number, operations in enumerate(steps, start=1):
        migration = Migration(f"{number:04}", APP)
        vars(migration)["operations"] = operations
        made.append(migration)
    return made


def structure(names: set[str]) -> dict[str, Any]:
    """Return the columns of these tables in their order, and their constraints."""
    connection = connections["default"]
    found = {}
    with connection.cursor() as cursor:
        for table in sorted(names):
            columns = connection.introspection.get_table_description(cursor, table)
            constraints = connection.introspection.get_constraints(cursor, table)
            found[table] = (
                [column[:9] for column in columns],
                sorted(map(str, constraints.values())),
            )
    return found


def unexpected(line: str) -> None:
    raise AssertionError(line)


def executors(kind: type[ProjectState]) -> AbstractContextManager[None]:
    """Prepare the executors of this process for the kind of states, as a run does."""
    if kind is LazyProjectState:
        return states.executors_render_on_demand(unexpected)
    return reloading_in_order()


@contextmanager
def reloading_in_order() -> Iterator[None]:
    """Let Django render models again in the order of its state: it does so in the order of
    a set of names, which differs between processes, and so do the statements."""
    usual = vars(ProjectState)["_reload"]

    def reload_in_order(self: ProjectState, related: set[Any]) -> None:
        known = [key for key in self.models if key in related]
        usual(self, [*known, *sorted(related - set(known))])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProjectState, "_reload", reload_in_order)
        yield


@contextmanager
def recorded_statements() -> Iterator[Counter[str]]:
    """Count each statement of this block, with its literals masked."""
    found: Counter[str] = Counter()
    assert connections["default"].features.supports_json_field is not None  # asks once

    def record(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        text = re.sub(r'SAVEPOINT ["`]?\w+["`]?', "SAVEPOINT", str(sql))
        found[re.sub(r"'[^']*'", "?", text)] += 1
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(record):
        yield found


class Run:
    """The statements of migrations that are applied and reverted, and what they leave.

    The models of the apps `real_apps` are those of the test project.
    """

    def __init__(
        self,
        kind: type[ProjectState],
        steps: Steps,
        *,
        back: bool = True,
        real_apps: frozenset[str] = frozenset(),
    ) -> None:
        self.connection = connections["default"]
        self.existing = tables()
        self.statements: Counter[str] = Counter()
        self.structures: list[dict[str, Any]] = []
        self.recorded: list[list[str]] = []
        self.start = lambda: kind(real_apps=set(real_apps))
        self.executor: Any = MigrationExecutor(self.connection)
        migrations = migrations_of(steps)
        self.error: Exception | None = None
        try:
            with executors(kind), recorded_statements() as self.statements:
                self.apply(migrations)
                if back:
                    self.revert(migrations)
        except Exception as error:  # noqa: BLE001 - the same one is expected of both kinds
            error.add_note(f"with {kind.__name__}")
            self.error = error
        finally:
            self.clean()

    @property
    def outcome(self) -> tuple[Any, ...]:
        """Everything that two runs are compared by."""
        error = type(self.error).__name__
        return error, self.statements, self.structures, self.recorded

    def apply(self, migrations: list[Migration]) -> None:
        state = self.start()
        for migration in migrations:
            state = self.executor.apply_migration(state, migration)
            self.look()

    def revert(self, migrations: list[Migration]) -> None:
        """As the executor does: with the states before each of them, made beforehand."""
        before, state = [], self.start()
        for migration in migrations:
            state.apps  # noqa: B018 - renders, as the executor does
            before.append(state)
            state = migration.mutate_state(state, preserve=True)
        for migration, earlier in zip(reversed(migrations), reversed(before), strict=True):
            self.executor.unapply_migration(earlier, migration)
            self.look()

    def look(self) -> None:
        self.structures.append(structure(tables() - self.existing))
        rows = MigrationRecorder(self.connection).migration_qs.filter(app=APP)
        self.recorded.append(sorted(rows.values_list("name", flat=True)))

    def clean(self) -> None:
        if self.connection.in_atomic_block:  # the editor's, if a deferred statement fails
            self.connection.in_atomic_block = False
            self.connection.close()
        left = tables() - self.existing
        with (
            self.connection.constraint_checks_disabled(),
            self.connection.cursor() as cursor,
        ):
            for table in left:
                cascade = " CASCADE" if self.connection.vendor == "postgresql" else ""
                name = self.connection.ops.quote_name(table)
                cursor.execute(f"DROP TABLE {name}{cascade}")
        MigrationRecorder(self.connection).migration_qs.filter(app=APP).delete()


def assert_parity(
    scenario: Callable[[], Steps], *, may_fail: bool = False, **words: Any
) -> None:
    """Assert that both kinds of states lead to the same outcome, which is no error unless
    one may be."""
    eager, lazy = (
        Run(kind, scenario(), **words) for kind in (ProjectState, LazyProjectState)
    )
    for run in (eager, lazy):
        if run.error is not None and not may_fail:
            raise run.error
    assert sum(eager.statements.values()) > len(eager.structures), eager.error
    assert str(lazy.error) == str(eager.error)
    assert lazy.statements == eager.statements
    assert lazy.structures == eager.structures
    assert lazy.recorded == eager.recorded
