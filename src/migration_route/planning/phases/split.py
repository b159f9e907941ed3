"""Which steps of Django's plan does one phase carry out, and which does it leave out?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType

from django.db.migrations import Migration

from migration_route.core import clock
from migration_route.core.enums import Phase
from migration_route.core.errors import InvalidRequest
from migration_route.planning import graph as graphs
from migration_route.planning.phases.classify import Phases, phases_of
from migration_route.planning.phases.types import Deferred
from migration_route.planning.plan import PlanRequest, Step

Key = tuple[str, str]
MigrationPlan = list[tuple[Migration, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDeferral:
    """When a step was first put off, and by which build."""

    at: str  # ISO 8601
    build: str


Deferrals = Mapping[str, FirstDeferral]
"""By "app.name"."""
NEVER: Deferrals = MappingProxyType({})
"""Nothing has ever been put off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phased:
    """A plan, divided."""

    steps: tuple[Step, ...]
    deferred: tuple[Deferred, ...]


def phase_asked(request: PlanRequest) -> Phase | None:
    """Return which phase is wanted; `any` means everything, like none."""
    return None if request.phase is Phase.ANY else request.phase


def refuse_impossible(request: PlanRequest) -> None:
    """Raise `InvalidRequest` where a phase cannot be asked for."""
    if phase_asked(request) is not None and len(request.targets) > 1:
        raise InvalidRequest(
            "A phase takes one target, or none: each target is a migrate of its own, and "
            "what one leaves out the next would meet again.",
            hint="Ask for one target after the other, or for none.",
        )


def phases_in(graph: graphs.Graph, alias: str, migrations: MigrationPlan) -> Phases:
    """Return the phases of a plan's steps; those of what is pending are kept."""
    keys = {(migration.app_label, migration.name) for migration, _ in migrations}
    if not any(backwards for _, backwards in migrations) and keys <= graph.phases.keys():
        return graph.phases
    loader = graph.loader
    if not keys <= loader.graph.nodes.keys():
        loader = graphs.read_graph_of(alias, [one for one, _ in migrations]).loader
    return phases_of(migrations, loader, graphs.without_route(graph.recorded))


def divide(
    steps: tuple[Step, ...], phase: Phase | None, deferrals: Deferrals, *, build: str
) -> Phased:
    """Divide steps by the phase that is asked for, keeping their order.

    A step whose delay is not over is left out of both, with all that depends on it.
    """
    if phase is None:
        return Phased(steps=steps, deferred=())
    chosen: list[Step] = []
    left: list[Deferred] = []
    waiting: set[str] = set()
    for step in steps:
        first = deferrals.get(step.label)
        why = _why_left_out(step, phase, first, waiting)
        if not why:
            chosen.append(step)
            continue
        if phase is Phase.AFTER_DEPLOY and step.phase.carried_out is phase:
            waiting.add(step.label)
        left.append(deferred(step, why, first, build=build))
    return Phased(steps=tuple(chosen), deferred=tuple(left))


def deferred(step: Step, why: str, first: FirstDeferral | None, *, build: str) -> Deferred:
    """Return a step as it is left out, dated by who put it off first."""
    found = Deferred(
        app=step.app, name=step.name, digest=step.digest, phase=step.phase, why=why
    )
    return dated(found, first, build=build)


def dated(left: Deferred, first: FirstDeferral | None, *, build: str) -> Deferred:
    """Return it with who put it off first, if anybody did. It is overdue when that was
    another build than the one that answers: its deploy is over."""
    if first is None or left.phase.carried_out is not Phase.AFTER_DEPLOY:
        return left
    return replace(left, since=first.at, by=first.build, overdue=first.build != build)


def _why_left_out(
    step: Step, phase: Phase, first: FirstDeferral | None, waiting: set[str]
) -> str:
    if step.phase.carried_out is not phase:
        if step.phase.is_ambiguous:
            return f"It waits for {step.phase.waits_for}, which comes after the deploy."
        side = "after" if phase is Phase.BEFORE_DEPLOY else "before"
        return f"It comes {side} the deploy."
    if held := waiting.intersection(step.phase.behind):
        return f"It waits for {min(held)}."
    if phase is Phase.AFTER_DEPLOY and step.phase.delay:
        return _why_too_early(step.phase.delay, first)
    return ""


def _why_too_early(delay: int, first: FirstDeferral | None) -> str:
    wanted = timedelta(seconds=delay)
    if first is None:
        return (
            f"It asks for a delay of {wanted}, which begins with the first run without it."
        )
    if clock.age(first.at) < wanted:
        return f"It asks for a delay of {wanted} since {first.at}."
    return ""
