"""Which order leads a copy back to where it was?"""

from __future__ import annotations

from migration_route.errors import RouteError
from migration_route.ledger.rehearsal_records import RehearsalRecord
from migration_route.planning import graph as graphs
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.rehearsal.copy_of import copy_connection
from migration_route.running.messages import Order, Scratch
from migration_route.vocabulary import Direction, Mode


def order_back(record: RehearsalRecord, scratch: Scratch) -> tuple[Order | None, str]:
    """Return the order, or why there is none: read in the copy as it is now."""
    if record.direction is not Direction.FORWARDS:
        return None, "Only the way forwards is taken back."
    wanted = {(app, name) for app, name, _ in record.steps}
    with copy_connection(record.database, scratch):
        try:
            graphs.forget(record.database)
            request = PlanRequest(
                database=record.database, targets=_before(record.database, wanted)
            )
            plan = make_plan(request)[0]
        except RouteError as error:
            return None, f"No plan leads back: {error}"
        finally:
            graphs.forget(record.database)
    if {(step.app, step.name) for step in plan.steps} != wanted:
        return None, "Going back to where each app was would take other steps along."
    stuck = [step.label for step in plan.steps if not step.reversible]
    if stuck:
        return None, f"There is no way back from {', '.join(stuck)}."
    order = Order(
        run=record.id,
        database=record.database,
        direction=plan.direction,
        mode=Mode.APPLY,
        targets=plan.targets,
        fingerprint=plan.fingerprint,
        steps=tuple((step.app, step.name, step.digest) for step in plan.steps),
        scratch=scratch,
    )
    return order, ""


def _before(database: str, wanted: set[tuple[str, str]]) -> tuple[str, ...]:
    """Return the target of each app: its last migration that is not to be taken back."""
    graph = graphs.read_graph(database)
    found: dict[str, str] = {}
    for app, name in sorted(wanted):
        parents = graph.loader.graph.node_map[(app, name)].parents
        of_app = [key.key for key in parents if key.key[0] == app]
        if not any(key in wanted for key in of_app):
            found[app] = f"{app}.{of_app[0][1]}" if of_app else f"{app}.zero"
    return tuple(found.values())
