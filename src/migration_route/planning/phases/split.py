"""Splits Django's plan into the steps of one phase and the steps that it leaves out."""

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
    """The time and the build of the first deferral of a step."""

    at: str  # ISO 8601
    build: str


Deferrals = Mapping[str, FirstDeferral]
"""By "app.name"."""
NO_DEFERRALS: Deferrals = MappingProxyType({})
"""No step was ever deferred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """A plan, split by phase."""

    steps: tuple[Step, ...]
    deferred: tuple[Deferred, ...]


def requested_phase(request: PlanRequest) -> Phase | None:
    """Return the requested phase; `any` means everything, like none."""
    return None if request.phase is Phase.ANY else request.phase


def require_valid_phase(request: PlanRequest) -> None:
    """Raise `InvalidRequest` for a phase that cannot be requested."""
    if requested_phase(request) is not None and len(request.targets) > 1:
        raise InvalidRequest(
            "A phase takes at most one target: each target is a separate migrate, which "
            "would include what the one before it left out.",
            hint="Request one target at a time, or none.",
        )


def phases_in(graph: graphs.Graph, alias: str, migrations: MigrationPlan) -> Phases:
    """Return the phases of a plan's steps; those of pending migrations are cached."""
    keys = {(migration.app_label, migration.name) for migration, _ in migrations}
    if not any(backwards for _, backwards in migrations) and keys <= graph.phases.keys():
        return graph.phases
    loader = graph.loader
    if not keys <= loader.graph.nodes.keys():
        loader = graphs.read_graph_of(alias, [one for one, _ in migrations]).loader
    return phases_of(migrations, loader, graphs.without_own_migrations(graph.recorded))


def split_by_phase(
    steps: tuple[Step, ...], phase: Phase | None, deferrals: Deferrals, *, build: str
) -> SplitPlan:
    """Split steps by the requested phase, keeping their order.

    A step whose delay has not passed is left out of both phases, with all that depends on
    it.
    """
    if phase is None:
        return SplitPlan(steps=steps, deferred=())
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
    return SplitPlan(steps=tuple(chosen), deferred=tuple(left))


def deferred(step: Step, why: str, first: FirstDeferral | None, *, build: str) -> Deferred:
    """Return a step as left out, with its first deferral."""
    found = Deferred(
        app=step.app, name=step.name, digest=step.digest, phase=step.phase, why=why
    )
    return with_deferral(found, first, build=build)


def with_deferral(left: Deferred, first: FirstDeferral | None, *, build: str) -> Deferred:
    """Return it with its first deferral, if any. It is overdue when another build deferred
    it: the deploy of that build is over."""
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
    if blocking := waiting.intersection(step.phase.behind):
        return f"It waits for {min(blocking)}."
    if phase is Phase.AFTER_DEPLOY and step.phase.delay:
        return _why_too_early(step.phase.delay, first)
    return ""


def _why_too_early(delay: int, first: FirstDeferral | None) -> str:
    wanted = timedelta(seconds=delay)
    if first is None:
        return (
            f"It requires a delay of {wanted}, which starts with the first run without it."
        )
    if clock.age(first.at) < wanted:
        return f"It requires a delay of {wanted} since {first.at}."
    return ""
