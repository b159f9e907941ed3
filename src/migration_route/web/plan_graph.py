"""The steps of a plan and their dependencies as a picture: a row for each step in the order
of the plan, a column for each app."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from migration_route.core.enums import Severity
from migration_route.planning.phases import MigrationPlan
from migration_route.web.plans import PlanView

ROW = 26
COLUMN = 22
_MARGIN = 14
_MOST_COLUMNS = 12  # further apps share the last column
_LETTER = 7.5
_FIRST, _LAST = "__first__", "__latest__"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    label: str
    number: int
    x: int
    y: int
    tone: str  # the worst severity of its findings: "blocking", "warning", "" for less
    phase: str
    depends_on: tuple[str, ...]  # steps of the same plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanGraph:
    nodes: tuple[Node, ...]
    edges: tuple[str, ...]  # paths of SVG
    width: int
    height: int
    text_x: int  # where the names begin


def plan_graph(view: PlanView, migrations: MigrationPlan) -> PlanGraph:
    """Return the picture of a plan; `migrations` are the migrations of its steps."""
    known = {
        (migration.app_label, migration.name): migration for migration, _ in migrations
    }
    steps = view.plan.steps
    rows = {(step.app, step.name): row for row, step in enumerate(steps)}
    columns: dict[str, int] = {}
    for step in steps:
        columns.setdefault(step.app, min(len(columns), _MOST_COLUMNS - 1))
    points = {
        (app, name): (_MARGIN + columns[app] * COLUMN, _MARGIN + row * ROW)
        for (app, name), row in rows.items()
    }
    needs: dict[Key, set[Key]] = {key: set() for key in rows}
    for key in rows:
        if key not in known:
            continue
        needs[key] |= _resolved(known[key].dependencies, rows)
        for later in _resolved(known[key].run_before, rows):
            needs[later].add(key)
    worst = {step.label: _worst(view, step.label) for step in steps}
    nodes = []
    for row, step in enumerate(steps):
        x, y = points[step.app, step.name]
        before = sorted(needs[step.app, step.name], key=rows.__getitem__)
        nodes.append(
            Node(
                label=step.label,
                number=row + 1,
                x=x,
                y=y,
                tone=worst[step.label],
                phase=step.phase.phase,
                depends_on=tuple(".".join(key) for key in before),
            )
        )
    text_x = 2 * _MARGIN + max(columns.values(), default=0) * COLUMN
    longest = max((len(node.label) for node in nodes), default=0)
    return PlanGraph(
        nodes=tuple(nodes),
        edges=tuple(_paths(needs, points)),
        width=round(text_x + (longest + 5) * _LETTER),
        height=len(nodes) * ROW + _MARGIN,
        text_x=text_x,
    )


def _resolved(keys: Iterable[tuple[str, str]], rows: dict[Key, int]) -> set[Key]:
    """Return those of these migrations that are steps of the plan."""
    found = set()
    for app, name in keys:
        if (app, name) in rows:
            found.add((app, name))
        elif name in {_FIRST, _LAST}:
            of_app = [key for key in rows if key[0] == app]
            choose = min if name == _FIRST else max
            if of_app:
                found.add(choose(of_app, key=rows.__getitem__))
    return found


def _worst(view: PlanView, label: str) -> str:
    found = {finding.severity for finding in view.findings if finding.step == label}
    for severity in (Severity.BLOCKING, Severity.WARNING):
        if severity in found:
            return severity
    return ""


def _paths(needs: dict[Key, set[Key]], points: dict[Key, tuple[int, int]]) -> Iterable[str]:
    for key, before in needs.items():
        x2, y2 = points[key]
        for other in before:
            x1, y1 = points[other]
            if x1 == x2:
                yield f"M{x1} {y1}V{y2}"
            else:  # along its own column, then across in the last row
                top, bottom = min(y1, y2), max(y1, y2)
                start, end = (x1, x2) if y1 < y2 else (x2, x1)
                yield (
                    f"M{start} {top}V{bottom - ROW}"
                    f"C{start} {bottom - ROW // 2} {end} {bottom - ROW // 2} {end} {bottom}"
                )
