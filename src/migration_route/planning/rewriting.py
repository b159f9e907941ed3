"""Which tables would be written anew, all at once?

A quick answer by the kinds of the operations: at most so often. And an exact one by the
forecasts of their statements, for whoever has no room for the most.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from django.db import DatabaseError, connections
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.planning.forecasting import with_forecast
from migration_route.planning.plan import Plan, Step
from migration_route.planning.planner import describe
from migration_route.planning.sql import collected
from migration_route.planning.states import backward_moves, forward_moves
from migration_route.vendors import vendor_of

logger = logging.getLogger("migration_route.planning")

Foreseen = tuple[tuple[str, ...] | None, bool]
"""The tables that are written anew, each as often as there is a copy of it at one time;
and whether there is something of which that is not foretold."""

_KNOWN = ("django.db.migrations.operations", "django.contrib.postgres.operations")
# No table that is there has its rows written anew by these, in no database.
_NEVER = frozenset(
    (
        *("CreateModel", "DeleteModel"),
        *("AlterModelManagers", "AlterModelOptions", "AlterModelTableComment"),
    )
)


def most_rewrites(
    migration: Migration, states: tuple[ProjectState, ...], *, backwards: bool
) -> int | None:
    """Return how often, at most, the tables that a migration names are written anew
    within one transaction; None where others may be. What Python does is not counted."""
    most = 0
    for operation in migration.operations:
        for part in parts_of(operation):
            count = _most_of(part, migration.app_label, states, backwards=backwards)
            if count is None:
                return None
            most += count
    return most if migration.atomic else min(most, 1)


def most_in_one_step(counts: Iterable[int | None]) -> int | None:
    """Return the most of several steps: each gives back its room at its end."""
    found = list(counts)
    return None if None in found else max((count or 0 for count in found), default=0)


def _most_of(
    operation: Operation, app: str, states: tuple[ProjectState, ...], *, backwards: bool
) -> int | None:
    if not operation.reduces_to_sql:
        return 0
    kind = type(operation)
    if not kind.__module__.startswith(_KNOWN):
        return None
    if kind.__name__ in _NEVER:
        return 0
    if kind.__name__ == "RunSQL":
        return sum(text.count(";") + 1 for text in raw_sql(operation, backwards=backwards))
    if kind.__name__ == "RenameModel" or _is_referred_to(operation, app, states):
        return None
    return 1


def _is_referred_to(
    operation: Operation, app: str, states: tuple[ProjectState, ...]
) -> bool:
    """Tell whether columns of other tables may change together with this field."""
    if type(operation).__name__ != "AlterField":
        return False
    model = (app, operation.model_name.lower())  # type: ignore[attr-defined]
    name: str = operation.name  # type: ignore[attr-defined]
    before = [
        state.models[model].fields.get(name) for state in states if model in state.models
    ]
    return any(
        field.primary_key or field.unique or field.many_to_many
        for field in (operation.field, *filter(None, before))  # type: ignore[attr-defined]
    )


def parts_of(operation: Operation) -> Iterable[Operation]:
    """Return what of an operation reaches the database."""
    found: Iterable[Operation] = getattr(operation, "database_operations", [operation])
    return found


def raw_sql(operation: Operation, *, backwards: bool) -> Iterator[str]:
    """Go through the statements that an operation holds as text: one, or a list of them,
    each alone or with its parameters."""
    raw = getattr(operation, "reverse_sql" if backwards else "sql", None)
    for statement in [raw] if isinstance(raw, str) else raw or ():
        yield statement if isinstance(statement, str) else statement[0]


def rewritten_by(plan: Plan) -> Foreseen:
    """Return what the step of a plan rewrites that needs the most room, by the forecasts
    and sizes that the plan tells."""
    sizes = {size.table: size.bytes or 0 for size in plan.tables}
    foreseen = [rewritten_in(step) for step in plan.steps]
    largest = max(
        (tables for tables, _ in foreseen),
        key=lambda tables: (sum(sizes.get(table, 0) for table in tables), len(tables)),
        default=(),
    )
    return largest, any(is_unforeseen for _, is_unforeseen in foreseen)


def rewritten_in(step: Step) -> tuple[tuple[str, ...], bool]:
    """Return the same of one step that has forecasts.

    Within a transaction the old rows stay until its end, so that a table which is written
    anew twice is there three times. What was not understood does not count: the worst is
    foretold of it, and no proof of anything.
    """
    found: list[str] = []
    is_unforeseen = False
    for operation in step.operations:
        if operation.forecasts is None:
            is_unforeseen = True
            continue
        for forecast in operation.forecasts:
            if forecast.is_understood:
                found += forecast.rewrites
            else:
                is_unforeseen = True
    return tuple(found if step.rolls_back else dict.fromkeys(found)), is_unforeseen


def foresee_step(
    migration: Migration, state: ProjectState, alias: str, *, backwards: bool
) -> Foreseen:
    """Return the same of the step that is about to begin, asked of the database as it is
    now; `state` is the one before the migration, and is left as it is. Raises nothing:
    what cannot be foretold is None.

    Over the connection of the step itself, outside of its transaction.
    """
    of_step = backward_moves if backwards else forward_moves
    moves = of_step(migration, state.clone(), renders=True)
    try:
        step = collected(describe(migration, backwards, alias), moves, alias)
        forecaster = vendor_of(alias).forecaster(connections[alias])
        return rewritten_in(with_forecast(step, forecaster))
    except DatabaseError:
        logger.warning("No forecast for %s", migration, exc_info=True)
        return None, True
