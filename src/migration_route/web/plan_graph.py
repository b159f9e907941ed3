"""The steps of a plan and their dependencies as a picture: a row for each step in the order
of the plan, a column for each app."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from migration_route.core.enums import Severity
from migration_route.planning.graph import Key
from migration_route.web.filters import side_words, worst_severity
from migration_route.web.plans import PlanView

ROW = 26
COLUMN = 22
_MARGIN = 14
_MOST_COLUMNS = 12  # further apps share the last column
_LETTER = 7.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    label: str
    number: int
    x: int
    y: int
    tone: str  # the worst severity of its findings: "blocking", "warning", "" for less
    side: str  # of the deploy; "" if either is safe
    depends_on: tuple[str, ...]  # steps of the same plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanGraph:
    nodes: tuple[Node, ...]
    edges: tuple[str, ...]  # paths of SVG
    width: int
    height: int
    text_x: int  # where the names begin


def plan_graph(view: PlanView, dependencies: Mapping[Key, Collection[Key]]) -> PlanGraph:
    """Return the picture of a plan; `dependencies` are those between its steps."""
    steps = view.plan.steps
    columns: dict[str, int] = {}
    for step in steps:
        columns.setdefault(step.app, min(len(columns), _MOST_COLUMNS - 1))
    points = {
        (step.app, step.name): (_MARGIN + columns[step.app] * COLUMN, _MARGIN + row * ROW)
        for row, step in enumerate(steps)
    }
    rows = list(points)
    needs = {key: sorted(dependencies.get(key, ()), key=rows.index) for key in rows}
    nodes = []
    for number, step in enumerate(steps, start=1):
        x, y = points[step.app, step.name]
        severity = worst_severity(step, view.findings)
        nodes.append(
            Node(
                label=step.label,
                number=number,
                x=x,
                y=y,
                tone="" if severity in {None, Severity.INFO} else str(severity),
                side=side_words(step.phase),
                depends_on=tuple(".".join(key) for key in needs[step.app, step.name]),
            )
        )
    text_x = 2 * _MARGIN + max(columns.values(), default=0) * COLUMN
    longest = max((len(node.label) + len(node.side) for node in nodes), default=0)
    return PlanGraph(
        nodes=tuple(nodes),
        edges=tuple(_paths(needs, points)),
        width=round(text_x + (longest + 8) * _LETTER),
        height=len(nodes) * ROW + _MARGIN,
        text_x=text_x,
    )


def _paths(
    needs: Mapping[Key, Iterable[Key]], points: dict[Key, tuple[int, int]]
) -> Iterable[str]:
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
