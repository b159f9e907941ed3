"""The project states of plans and runs: they render on demand, unless Django's own are
needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import isfunction
from typing import Any

from django.db.migrations import Migration, RunPython
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState, StateApps

from migration_route.planning.lazy_states import (
    LazyProjectState,
    ModelStates,
    Snapshot,
)
from migration_route.planning.model_references import key_of, real_models, references


def problem_of(state: ProjectState) -> str:
    """Return why Django's own states must be used; empty if they need not."""
    if not is_django_own(type(state)):
        return "Another package replaces Django's project states."
    if has_missing_references(state):  # Django reports it when it renders all models
        return "A model refers to one that does not exist."
    return ""


def is_django_own(kind: type[ProjectState]) -> bool:
    """Return whether states and registries are those of Django, and not replaced or patched
    by another package. Patches of `ModelState` apply to our states as well."""
    methods = filter(isfunction, (*vars(ProjectState).values(), *vars(StateApps).values()))
    own = {"django.db.migrations.state", "contextlib"}  # a method is a context manager
    return kind is ProjectState and all(
        method.__globals__["__name__"] in own for method in methods
    )


def has_missing_references(state: ProjectState) -> bool:
    """Return whether a model refers to one that is neither in the state nor installed."""
    known = state.models.keys() | map(key_of, real_models(frozenset(state.real_apps)))
    return any(
        other not in known
        for model in state.models.values()
        for other, _ in references(model)
    )


def empty_state(real_apps: set[str]) -> ProjectState:
    """Return a state without models, for `advance`: one that renders on demand, unless
    another package replaces Django's own."""
    kind = LazyProjectState if is_django_own(ProjectState) else ProjectState
    return kind(real_apps=real_apps)


def advance(operation: Operation, app: str, state: ProjectState) -> None:
    """Apply an operation to a state; one that is not Django's own may change anything."""
    if isinstance(state, LazyProjectState) and not is_django_own_operation(operation):
        state.models.detach()
    operation.state_forwards(app, state)


def advance_past(migration: Migration, state: ProjectState) -> None:
    """Apply a migration to a state.

    Django's own states change fields in place that belong to the operations (`RenameField`
    in those that refer to the field), and so every later state of the process. A state that
    renders on demand changes copies.
    """
    is_usual = type(migration).mutate_state is Migration.mutate_state
    if not is_usual or all(map(is_django_own_operation, migration.operations)):
        migration.mutate_state(state, preserve=False)
    else:
        for operation in migration.operations:
            advance(operation, migration.app_label, state)


def state_after(migrations: Iterable[Migration], real_apps: set[str]) -> ProjectState:
    """Return the state after these migrations, which renders on demand.

    The states of the last few sets of migrations are kept: every plan of a database, each
    of its pieces, and the plans of databases with the same migrations start from one.
    """
    applied = tuple(migrations)
    parts = tuple(operation for each in applied for operation in each.operations)
    key = (
        tuple((each.app_label, len(each.operations)) for each in applied),
        tuple(map(id, parts)),
        frozenset(real_apps),
    )
    is_own = is_django_own(ProjectState)
    if is_own and (kept := _kept.get(key)):
        return kept.fresh_copy()
    state = empty_state(real_apps)
    for migration in applied:
        advance_past(migration, state)
    if not isinstance(state, LazyProjectState):
        return state
    if has_missing_references(state):  # Django reports it when it renders all models
        return ProjectState(dict(state.models), real_apps)
    kept = _KeptState(state, parts)
    _kept.put(key, kept)
    return kept.fresh_copy()


class _KeptState:
    """A state that nothing changes, and the operations that led to it: while they exist,
    no other operation has the identity that is part of the key."""

    def __init__(self, state: LazyProjectState, parts: tuple[Operation, ...]) -> None:
        self.parts = parts
        self._real_apps = state.real_apps
        self._snapshot = state.models.snapshot()

    def fresh_copy(self) -> LazyProjectState:
        """Return a state with these models and a registry of its own: registries render
        without a lock, so threads must not share one."""
        kept = self._snapshot
        snapshot = Snapshot(kept.models, kept.removed, kept.real_apps)
        models = ModelStates(kept.models, real_apps=self._real_apps, snapshot=snapshot)
        return LazyProjectState(models, self._real_apps)


_MOST_KEPT = 4


class _KeptStates:
    """The states that were used last, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[object, _KeptState] = OrderedDict()

    def get(self, key: object) -> _KeptState | None:
        with self._lock:
            if key in self._states:
                self._states.move_to_end(key)
            return self._states.get(key)

    def put(self, key: object, state: _KeptState) -> None:
        with self._lock:
            self._states[key] = state
            while len(self._states) > _MOST_KEPT:
                self._states.popitem(last=False)


_kept = _KeptStates()


def copy_of(state: ProjectState) -> LazyProjectState:
    """Return a state with copies of the models, without what the original has rendered."""
    if isinstance(state, LazyProjectState):
        return state.clone()
    models = {key: model.clone() for key, model in state.models.items()}
    return LazyProjectState(models, state.real_apps)


@contextmanager
def ready_for(operation: Operation, *states: ProjectState) -> Iterator[None]:
    """Prepare the states that an operation is about to get, in this block: code that is not
    Django's may ask for any model."""
    with ExitStack() as prepared:
        if runs_other_code(operation):
            for state in states:
                if isinstance(state, LazyProjectState):
                    prepared.enter_context(state.for_other_code())
        yield


def runs_other_code(operation: Operation) -> bool:
    """Return whether an operation or one of its parts passes states or models to code that
    is not Django's own."""
    return (
        isinstance(operation, RunPython)
        or not is_django_own_operation(operation)
        or any(map(runs_other_code, _parts(operation)))
    )


def is_django_own_operation(operation: Operation) -> bool:
    """Return whether what an operation and its parts do to states and database is Django's
    own code."""
    kind = type(operation)
    methods = (kind.state_forwards, kind.database_forwards, kind.database_backwards)
    return all(
        method.__module__.startswith(("django.db.migrations.", "django.contrib."))
        for method in methods
    ) and all(map(is_django_own_operation, _parts(operation)))


@contextmanager
def executors_render_on_demand(report: Callable[[str], object]) -> Iterator[None]:
    """Let the executors of this process start from states that render on demand, in this
    block. For a process that exists only for a run. `report` receives a line if Django's
    own states are used."""
    kind: Any = MigrationExecutor
    create = kind._create_project_state
    reported: set[str] = set()
    with ExitStack() as undo:
        prepare = _Preparation(undo)

        @wraps(create)
        def create_on_demand(self: MigrationExecutor, *args: Any, **words: Any) -> Any:
            django_state = create(self, *args, **words)
            if problem := problem_of(django_state):
                if problem not in reported:
                    report(f"This run uses Django's own project states. {problem}")
                reported.add(problem)
                return django_state
            for migration in self.loader.graph.nodes.values():
                prepare(migration)
            state = LazyProjectState(django_state.models, django_state.real_apps)
            # `migrate` passes this registry to the receivers of pre_migrate.
            state.models.snapshot().apps.require_all()
            return state

        def prepared(run: Callable[..., Any]) -> Callable[..., Any]:
            """A receiver of pre_migrate may have added operations to the migration."""

            @wraps(run)
            def run_prepared(
                self: MigrationExecutor, state: Any, migration: Migration, **words: Any
            ) -> Any:
                if isinstance(state, LazyProjectState):
                    prepare(migration)
                return run(self, state, migration, **words)

            return run_prepared

        replaced = {
            "_create_project_state": create_on_demand,
            "apply_migration": prepared(kind.apply_migration),
            "unapply_migration": prepared(kind.unapply_migration),
        }
        for name, method in replaced.items():
            undo.callback(setattr, kind, name, getattr(kind, name))
            setattr(kind, name, method)
        yield


class _Preparation:
    """Wraps the operations of migrations, on the instances, unless they are Django's own
    code; once each, until `undo` ends."""

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self._prepared: dict[int, Operation] = {}

    def __call__(self, migration: Migration) -> None:
        for operation in migration.operations:
            if id(operation) not in self._prepared and runs_other_code(operation):
                self._prepared[id(operation)] = operation
                self._wrap(operation)

    def _wrap(self, operation: Operation) -> None:
        run_state = operation.state_forwards
        is_own = is_django_own_operation(operation)

        @wraps(run_state)
        def state_forwards(app: str, state: ProjectState) -> None:
            if isinstance(state, LazyProjectState):
                state.models.detach()
            run_state(app, state)

        def with_all_models(run: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(run)
            def run_with_all_models(
                app: str, editor: Any, from_state: ProjectState, to_state: ProjectState
            ) -> Any:
                with ready_for(operation, from_state, to_state):
                    return run(app, editor, from_state, to_state)

            return run_with_all_models

        wrapped: dict[str, Callable[..., Any]] = {}
        if not is_own:
            wrapped["state_forwards"] = state_forwards
        for name in ("database_forwards", "database_backwards"):
            wrapped[name] = with_all_models(getattr(operation, name))
        for name, run in wrapped.items():
            usual = vars(operation).get(name)
            setattr(operation, name, run)
            self._undo.callback(_restore, operation, name, usual)


def _restore(operation: Operation, name: str, usual: Any) -> None:
    vars(operation).pop(name, None)
    if usual is not None:
        setattr(operation, name, usual)


def _parts(operation: Operation) -> Iterator[Operation]:
    """Yield the operations that an operation consists of (`SeparateDatabaseAndState`)."""
    yield from getattr(operation, "database_operations", ())
    yield from getattr(operation, "state_operations", ())
