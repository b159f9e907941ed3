"""Makes plans, and finds their targets in the migration graph. It reads, and never writes.

The rules for targets, and their order, are those of `manage.py migrate APP [NAME]`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.apps import apps
from django.db.migrations import Migration, RunPython
from django.db.migrations.exceptions import AmbiguityError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation as MigrationOperation

from migration_route.conf import route_settings
from migration_route.conf.databases import find_target, is_in_one_transaction
from migration_route.core.enums import OWN_APP, Direction, Phase
from migration_route.core.errors import InvalidRequest, UnknownTarget
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.phases import (
    NO_DEFERRALS,
    Deferrals,
    MigrationPlan,
    Phases,
    phases_of,
    split_by_phase,
)
from migration_route.planning.plan import (
    Operation,
    Plan,
    PlanRequest,
    Step,
    StepPhase,
    fingerprint_of,
)

_FORMS = "app, app.name or app.zero"
Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    label: str  # "app", "app.name", "app.zero"
    keys: tuple[Key, ...]  # those of the migration executor; (app, None) is zero


def full_destination(loader: MigrationLoader) -> Destination:
    """Return the destination of a plain `manage.py migrate`."""
    return Destination(label="", keys=tuple(loader.graph.leaf_nodes()))


def find_destination(
    text: str, loader: MigrationLoader, *, ledger_here: bool
) -> Destination:
    """Find a target in the graph. Raises `UnknownTarget` or `InvalidRequest`."""
    app, dot, name = text.partition(".")
    try:
        apps.get_app_config(app)
    except LookupError as error:
        raise UnknownTarget(
            f"The project has no app {app!r}.", hint=f"Write a target as {_FORMS}."
        ) from error
    if dot and not name:
        raise UnknownTarget(
            f"{text!r} does not name a migration.", hint=f"Write a target as {_FORMS}."
        )
    if app not in loader.migrated_apps:
        raise UnknownTarget(f"The app {app!r} has no migrations.")
    if app == OWN_APP and ledger_here and name:
        raise InvalidRequest(
            "A run cannot migrate the ledger's own tables, because it writes to them.",
            hint="Run 'manage.py migrate migration_route …' while no run is active.",
        )
    if not name:
        leaves = tuple(key for key in loader.graph.leaf_nodes() if key[0] == app)
        return Destination(label=app, keys=leaves)
    if name == "zero":
        return Destination(label=text, keys=((app, None),))
    key = _migration(app, name, loader)
    return Destination(label=f"{key[0]}.{key[1]}", keys=(key,))


def _migration(app: str, name: str, loader: MigrationLoader) -> tuple[str, str]:
    try:
        found = loader.get_migration_by_prefix(app, name)
    except AmbiguityError as error:
        fitting = sorted(
            n for a, n in loader.disk_migrations if a == app and n.startswith(name)
        )
        raise UnknownTarget(
            f"Several migrations of {app!r} start with {name!r}: {', '.join(fitting)}.",
            hint="Write more of the name.",
        ) from error
    except KeyError as error:
        raise UnknownTarget(f"No migration of {app!r} starts with {name!r}.") from error
    key = (app, found.name)
    # A partially applied squashed migration is not in the graph; Django migrates to the
    # last one that it replaces (ticket 25945).
    if key not in loader.graph.nodes and key in loader.replacements:
        return tuple(loader.replacements[key].replaces[-1])  # type: ignore[return-value]
    return key


@graphs.without_translations()
def make_plan(
    request: PlanRequest,
    deferrals: Deferrals = NO_DEFERRALS,
    recorded: graphs.Applied | None = None,
) -> tuple[Plan, MigrationPlan]:
    """Return the plan, without SQL and findings, and Django's own list behind it.

    It starts from these recorded migrations; with None, they are read.

    For a plan of one phase, both contain only its steps; `deferrals` are the earlier
    deferrals of the steps it leaves out.

    Raises `UnknownDatabase`, `UnknownTarget`, `InvalidRequest`, `ConflictingMigrations`,
    `InconsistentHistory`, `BrokenMigrations` and `DatabaseUnavailable`.
    """
    phase = _requested_phase(request)
    target = find_target(request.database)
    graph = graphs.read_graph(target.alias, recorded)
    if graph.problem is not None:
        raise graph.problem.with_traceback(None)  # cached, and raised more than once
    destinations, migrations = _resolve(request, graph)
    direction = direction_of(migrations)
    phases = _phases_in(graph, target.alias, migrations)
    steps, left_out = split_by_phase(
        tuple(
            replace(
                describe(migration, backwards, target.alias),
                phase=phases[migration.app_label, migration.name],
            )
            for migration, backwards in migrations
        ),
        phase,
        deferrals,
        build=sources.build(),
    )
    if phase is not None:
        kept = {(step.app, step.name) for step in steps}
        migrations = [item for item in migrations if _key(item[0]) in kept]
        direction = direction_of(migrations)
    labels = tuple(found.label for found in destinations if found.label)
    plan = Plan(
        database=target.alias,
        vendor=target.vendor,
        direction=direction,
        mode=request.mode,
        targets=labels,
        transactional_ddl=is_in_one_transaction(target.alias, atomic=True),
        steps=steps,
        build=sources.build(),
        phase=phase,
        deferred=left_out,
        fingerprint=fingerprint_of(
            database=target.alias,
            targets=labels,
            direction=direction,
            mode=request.mode,
            steps=steps,
            applied=applied_for_fingerprint(graph.recorded, target.alias),
            build=sources.build(),
            place=sources.place(),
            phase=phase,
            left_out=((left.app, left.name, left.digest) for left in left_out),
        ),
    )
    return plan, migrations


def _requested_phase(request: PlanRequest) -> Phase | None:
    """Return the requested phase; `any` means everything, like none.

    Raises `InvalidRequest` for a phase that cannot be requested.
    """
    if request.phase in {None, Phase.ANY}:
        return None
    if len(request.targets) > 1:
        raise InvalidRequest(
            "A phase takes at most one target: each target is a separate migrate, which "
            "would include what the one before it left out.",
            hint="Request one target at a time, or none.",
        )
    return request.phase


def _phases_in(graph: graphs.Graph, alias: str, migrations: MigrationPlan) -> Phases:
    """Return the phases of a plan's steps; those of pending migrations are cached."""
    keys = {(migration.app_label, migration.name) for migration, _ in migrations}
    if not any(backwards for _, backwards in migrations) and keys <= graph.phases.keys():
        return graph.phases
    loader = graph.loader
    if not keys <= loader.graph.nodes.keys():
        loader = graphs.read_graph_of(alias, [one for one, _ in migrations]).loader
    return phases_of(migrations, loader, graphs.without_own_migrations(graph.recorded))


def _key(migration: Migration) -> tuple[str, str]:
    return migration.app_label, migration.name


def _resolve(
    request: PlanRequest, graph: graphs.Graph
) -> tuple[list[Destination], MigrationPlan]:
    """Return each target, and Django's plan to it from the end of the one before it: each
    is a separate `migrate`."""
    alias, loader, recorded = request.database, graph.loader, graph.recorded
    if not request.targets:
        destination = full_destination(loader)
        return [destination], without_own_app(list(graph.plan), alias)
    destinations: list[Destination] = []
    plan: MigrationPlan = []
    steps: MigrationPlan = []
    for text in request.targets:
        if destinations:
            loader, recorded = graphs.simulate_applied(loader, alias, recorded, plan)
        found = find_destination(text, loader, ledger_here=holds_ledger(alias))
        plan = graphs.migration_plan(loader, alias, found.keys)
        destinations.append(found)
        steps += without_own_app(plan, alias)
        direction_of(steps)  # raises when a later target changes direction
    return destinations, steps


def holds_ledger(alias: str) -> bool:
    return alias == route_settings().ledger_database


def without_own_app(migrations: MigrationPlan, alias: str) -> MigrationPlan:
    """Exclude the ledger's own tables where the ledger is stored: it installs itself."""
    if not holds_ledger(alias):
        return migrations
    return [item for item in migrations if item[0].app_label != OWN_APP]


def pending(graph: graphs.Graph, alias: str) -> tuple[str, ...]:
    """Return what a plain `migrate` would apply, except the ledger's own tables."""
    return tuple(pending_phases(graph, alias))


def pending_phases(graph: graphs.Graph, alias: str) -> dict[str, StepPhase]:
    """Return the phases of what a plain `migrate` would apply, in the order of its plan."""
    own = {OWN_APP} if holds_ledger(alias) else set()
    return {
        f"{app}.{name}": graph.phases[app, name]
        for app, name in graph.pending
        if app not in own
    }


def applied_for_fingerprint(applied: graphs.Applied, alias: str) -> graphs.Applied:
    """Return the applied migrations that a plan starts from, without the ledger's own,
    which may be applied between the plan and its run."""
    return graphs.without_own_migrations(applied) if holds_ledger(alias) else applied


def direction_of(migrations: MigrationPlan) -> Direction:
    """Return the direction of a plan. Raises `InvalidRequest` for both at once."""
    directions = {backwards for _, backwards in migrations}
    if len(directions) > 1:
        raise InvalidRequest(
            "These targets need steps both forwards and backwards.",
            hint="Request a plan in one direction, then one in the other.",
        )
    if not directions:
        return Direction.NONE
    return Direction.BACKWARDS if directions.pop() else Direction.FORWARDS


def describe(migration: Migration, backwards: bool, alias: str) -> Step:  # noqa: FBT001 - Django's pair
    return Step(
        app=migration.app_label,
        name=migration.name,
        direction=Direction.BACKWARDS if backwards else Direction.FORWARDS,
        digest=sources.source_digest(type(migration).__module__),
        atomic=migration.atomic,
        reversible=all(operation.reversible for operation in migration.operations),
        rolls_back=rolls_back(migration, alias),
        replaces=tuple(f"{app}.{name}" for app, name in migration.replaces),
        operations=tuple(
            Operation(
                description=describe_operation(operation),
                opaque=is_opaque(operation),
            )
            for operation in migration.operations
        ),
    )


def is_opaque(operation: MigrationOperation) -> bool:
    """Return whether an operation, or a part of it, is Python code and not SQL."""
    parts = getattr(operation, "database_operations", ())
    return not operation.reduces_to_sql or any(map(is_opaque, parts))


def describe_operation(operation: MigrationOperation) -> str:
    """Return Django's description, with the name of the function that RunPython runs."""
    text = str(operation.describe())
    if isinstance(operation, RunPython) and (
        name := getattr(operation.code, "__name__", "")
    ):
        return text if name in text else f"{text}: {name}"
    return text


def rolls_back(migration: Migration, alias: str) -> bool:
    """Return whether the database rolls back the whole step when it fails.

    Without transactional DDL, Django still runs each data operation in its own transaction
    (`Migration.apply`), which is the whole step when it is the only operation.
    """
    if is_in_one_transaction(alias, atomic=True):
        return bool(migration.atomic)
    if len(migration.operations) != 1 or not isinstance(migration.operations[0], RunPython):
        return False
    atomic = migration.operations[0].atomic
    return bool(atomic or (migration.atomic and atomic is not False))
