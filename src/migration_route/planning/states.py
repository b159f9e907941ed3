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

from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState, StateApps

from migration_route.planning.lazy_states import (
    LazyProjectState,
    ModelStates,
    Snapshot,
    key_of,
    real_models,
    references,
)


def on_demand(state: ProjectState) -> ProjectState:
    """Return a state that renders on demand, for one that is not rendered yet; the state
    itself if `problem_of` finds a reason."""
    if problem_of(state):
        return state
    return LazyProjectState(state.models, state.real_apps)


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
    state = ProjectState(real_apps=real_apps)
    for migration in applied:
        migration.mutate_state(state, preserve=False)
    found = on_demand(state)
    if is_own and isinstance(found, LazyProjectState):
        kept = _KeptState(found, parts)
        _kept.put(key, kept)
        return kept.fresh_copy()
    return found


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


def advance(operation: Operation, app: str, state: ProjectState) -> None:
    """Apply an operation to a state; one that is not Django's own may change anything."""
    if isinstance(state, LazyProjectState) and not is_django_own_operation(operation):
        state.models.detach()
    operation.state_forwards(app, state)


def require_all_models(operation: Operation, *states: ProjectState) -> None:
    """Give all models to an operation that is not Django's own: it may ask for any."""
    if not is_django_own_operation(operation):
        for state in states:
            if isinstance(state, LazyProjectState):
                state.apps.require_all()


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
    create = MigrationExecutor._create_project_state  # type: ignore[attr-defined]
    reported: set[str] = set()
    with ExitStack() as prepared:

        @wraps(create)
        def create_on_demand(self: MigrationExecutor, *args: Any, **words: Any) -> Any:
            django_state = create(self, *args, **words)
            if problem := problem_of(django_state):
                if problem not in reported:
                    report(f"This run uses Django's own project states. {problem}")
                reported.add(problem)
                return django_state
            for migration in self.loader.graph.nodes.values():
                for operation in migration.operations:
                    _prepare(operation, prepared)
            state = LazyProjectState(django_state.models, django_state.real_apps)
            # `migrate` passes this registry to the receivers of pre_migrate.
            state.models.snapshot().apps.require_all()
            return state

        MigrationExecutor._create_project_state = create_on_demand  # type: ignore[attr-defined]
        try:
            yield
        finally:
            MigrationExecutor._create_project_state = create  # type: ignore[attr-defined]


def _prepare(operation: Operation, prepared: ExitStack) -> None:
    """Wrap an operation, on the instance, unless it is Django's own; and its parts."""
    for part in _parts(operation):
        _prepare(part, prepared)
    if is_django_own_operation(operation) or "state_forwards" in vars(operation):
        return
    run_state = operation.state_forwards

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
            require_all_models(operation, from_state, to_state)
            return run(app, editor, from_state, to_state)

        return run_with_all_models

    wrapped: dict[str, Callable[..., Any]] = {"state_forwards": state_forwards}
    for name in ("database_forwards", "database_backwards"):
        wrapped[name] = with_all_models(getattr(operation, name))
    for name, run in wrapped.items():
        setattr(operation, name, run)
        prepared.callback(vars(operation).pop, name, None)


def _parts(operation: Operation) -> Iterator[Operation]:
    """Yield the operations that an operation consists of (`SeparateDatabaseAndState`)."""
    yield from getattr(operation, "database_operations", ())
    yield from getattr(operation, "state_operations", ())
