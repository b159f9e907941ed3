"""Executes every migration operation by operation, and reads the catalog after each.

Runs in a separate process, inside of a project.
"""

from __future__ import annotations

import json
import sys

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from migration_route.execution.recovery.introspection import (
    compare,
    compare_end,
    read_live_catalog,
)
from migration_route.execution.recovery.schema_marks import Marker, effect_of
from migration_route.planning import graph as graphs
from migration_route.planning.sql import moves_of

surprises: list[str] = []
counts = {"operations": 0, "known": 0}


def main():
    executor = MigrationExecutor(connection)
    executor.recorder.ensure_schema()
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    for migration, _ in plan:
        carry_out(migration, executor, backwards=False)
    for migration, _ in reversed(plan):
        if all(operation.reversible for operation in migration.operations):
            carry_out(migration, executor, backwards=True)
        else:
            break
    sys.stdout.write(json.dumps({"surprises": surprises, **counts}))


def carry_out(migration, executor, *, backwards):
    graph = graphs.read_graph("default")
    moves = moves_of(graph, migration, backwards)
    marker = Marker("default")
    effects = [effect_of(move, marker) for move in moves]
    look(migration, effects, 0)
    connection.disable_constraint_checking()
    with connection.schema_editor(atomic=False) as editor:
        for count, (operation, app, before, after, _) in enumerate(moves, 1):
            run = operation.database_backwards if backwards else operation.database_forwards
            run(app, editor, before, after)
            look(migration, effects, count, operation)
    connection.enable_constraint_checking()
    look(migration, effects, len(moves))
    end = compare_end(effects, there(effects))
    if end not in {"present", "unknown"}:
        surprises.append(f"{migration} at its end: {end}")
    key = (migration.app_label, migration.name)
    executor.record_migration(*key, forward=not backwards)


def there(effects):
    tables = {mark.table for effect in effects for mark in effect.touched}
    return read_live_catalog("default", tables).marks


def look(migration, effects, count, operation=None):
    live = there(effects)
    for number, state in enumerate(compare(effects, live)):
        expected = "present" if number < count else "absent"
        counts["operations"] += 1
        counts["known"] += state == expected
        effect = effects[number]
        wrong = state not in {expected, "unknown"}
        blind = (
            effect.touched and state == "unknown" and not _comes_and_goes(effects, effect)
        )
        if wrong or blind:
            gone = sorted(map(str, effect.gained - live)) + sorted(
                map(str, effect.lost & live)
            )
            surprises.append(
                f"{migration} after {count} ({operation}): operation {number} is {state}, "
                f"not {expected}; {gone if expected == 'present' else ''}"
            )


def _comes_and_goes(effects, effect):
    return any(other is not effect and other.touched & effect.touched for other in effects)
