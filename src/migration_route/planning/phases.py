"""Assigns each step of a plan to a side of the deploy, and splits a plan by side.

Declared phases apply as they are; the others are computed operation by operation. Then
steps wait for the steps that they depend on. The running release is assumed to be the one
for which all recorded migrations were applied.

Declarations are found by duck typing, without an import: the attribute `phase` of this
package, django-safemigrate's `safe`, django-syzygy's `stage`, and the suffix `_contract` of
phased migrations.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.core import clock
from migration_route.core.enums import Phase
from migration_route.core.redaction import message_of
from migration_route.planning.compatibility import (
    Classification,
    NewObjects,
    classify_operation,
)
from migration_route.planning.plan import COMPUTED, Deferred, Step, StepPhase
from migration_route.planning.states import advance, advance_past, empty_state

_WORDS = {
    "before_deploy": Phase.BEFORE_DEPLOY,
    "pre_deploy": Phase.BEFORE_DEPLOY,
    "pre_deployment": Phase.BEFORE_DEPLOY,
    "after_deploy": Phase.AFTER_DEPLOY,
    "post_deploy": Phase.AFTER_DEPLOY,
    "post_deployment": Phase.AFTER_DEPLOY,
    "always": Phase.ANY,
    "any": Phase.ANY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    phase: Phase | None  # None: its value is not a known phase
    source: str
    delay: int = 0  # seconds
    text: str = ""


def declared_phase(migration: Migration) -> Declaration | None:
    """Return what a migration as a whole declares, or None.

    The attribute of this package takes precedence over those of other packages, and all
    attributes over the name.
    """
    own = getattr(migration, "phase", None)
    if own is not None:
        return Declaration(phase=_read(own), source="phase", text=repr(own)[:60])
    for attribute in ("safe", "stage"):
        value = getattr(migration, attribute, None)
        phase = None if value is None else _read(value)
        if phase is not None:
            return Declaration(phase=phase, source=attribute, delay=_delay(value))
    if migration.name.endswith("_contract"):
        return Declaration(phase=Phase.AFTER_DEPLOY, source="_contract")
    return None


def declared_by_operation(operation: Operation) -> Phase | None:
    """Return the `stage` of one operation, or None."""
    value = getattr(operation, "stage", None)
    return None if value is None else _read(value)


def _read(value: Any) -> Phase | None:
    """Read text, an enum, an object with one in `when`, or `Safe.after_deploy` uncalled."""
    value = getattr(value, "when", value)
    for word in (
        value,
        getattr(value, "value", None),
        getattr(value, "name", None),
        getattr(value, "__name__", None),
    ):
        if isinstance(word, str) and word.lower() in _WORDS:
            return _WORDS[word.lower()]
    return None


def _delay(value: Any) -> int:
    delay = getattr(value, "delay", None)
    return int(delay.total_seconds()) if isinstance(delay, timedelta) else 0


logger = logging.getLogger("migration_route.planning")

Key = tuple[str, str]
MigrationPlan = list[tuple[Migration, bool]]
Phases = Mapping[Key, StepPhase]

_FORWARDS = {"<old>": "the running release", "<new>": "the new release"}
_BACKWARDS = {"<old>": "the release that comes back", "<new>": "the running release"}
_SIDES = {
    Phase.BEFORE_DEPLOY: "before the deploy",
    Phase.AFTER_DEPLOY: "after the deploy",
    Phase.ANY: "on either side of the deploy",
}
_FIRST = StepPhase(
    phase=Phase.BEFORE_DEPLOY,
    why="Nothing is applied to this database yet, so no running release can break.",
)


def phases_of(
    plan: MigrationPlan, loader: MigrationLoader, recorded: Collection[Key]
) -> Phases:
    """Return the phase of each step of a plan in one direction.

    On a database without recorded migrations everything belongs before the deploy, whatever
    it declares.
    """
    if not plan:
        return {}
    keys = [(migration.app_label, migration.name) for migration, _ in plan]
    if not recorded:
        return dict.fromkeys(keys, _FIRST)
    backwards = plan[0][1]
    alone = _each_alone(plan, loader, backwards=backwards)
    return _in_the_graph({key: alone[key] for key in keys}, loader, backwards=backwards)


def _each_alone(
    plan: MigrationPlan, loader: MigrationLoader, *, backwards: bool
) -> dict[Key, StepPhase]:
    """Classify every migration of a plan in one pass through the project states."""
    wanted = {(migration.app_label, migration.name) for migration, _ in plan}
    found: dict[Key, StepPhase] = {}
    try:
        state = empty_state(loader.unmigrated_apps)
        novel = NewObjects()
        applied = [
            loader.graph.nodes[key]
            for key in in_dependency_order(loader)
            if key in loader.applied_migrations
        ]
        rest = [] if backwards else [migration for migration, _ in plan]
        for migration in (*applied, *rest):
            key = (migration.app_label, migration.name)
            if key in wanted:
                known = NewObjects() if backwards else novel
                found[key] = _alone(migration, state, known, backwards=backwards)
            else:
                advance_past(migration, state)
    except Exception as error:  # a migration's own code; Django would fail as well
        logger.warning("Cannot compute the phases of a plan.", exc_info=True)
        why = f"{type(error).__name__}: {message_of(error)}"
        unknown = StepPhase(
            phase=Phase.BEFORE_DEPLOY, why=f"Its operations cannot be read ({why})."
        )
        return {key: found.get(key, unknown) for key in wanted}
    return {key: found.get(key, StepPhase()) for key in wanted}


def in_dependency_order(loader: MigrationLoader) -> list[Key]:
    """Return the whole graph, each node after those that it depends on."""
    seen: dict[Key, None] = {}
    for leaf in loader.graph.leaf_nodes():
        seen.update(dict.fromkeys(loader.graph.forwards_plan(leaf)))
    return list(seen)


def _alone(
    migration: Migration, state: ProjectState, novel: NewObjects, *, backwards: bool
) -> StepPhase:
    """Classify one migration, and advance the state past it."""
    declaration = declared_phase(migration)
    judgements: list[Classification] = []
    sources = {COMPUTED}
    for operation in migration.operations:
        judgement = classify_operation(operation, migration.app_label, state, novel)
        advance(operation, migration.app_label, state)
        if phase := declared_by_operation(operation):
            sources.add("stage")
            why = f"An operation declares 'stage': {_SIDES[phase]}."
            judgement = Classification(phase=phase, why=why)
        judgements.append(judgement.backwards() if backwards else judgement)
    if declaration is not None and declaration.phase is not None:
        return _as_declared(declaration, backwards=backwards)
    unread = "" if declaration is None else declaration.text
    return _combined(judgements, sources, unread=unread, backwards=backwards)


def _as_declared(found: Declaration, *, backwards: bool) -> StepPhase:
    assert found.phase is not None  # noqa: S101 - for the type checker
    phase = found.phase
    if backwards:
        phase = Classification(phase=phase, why="").backwards().phase
    back = " It goes backwards, so the sides are swapped." if backwards else ""
    how = (
        "Its name ends in _contract"
        if found.source == "_contract"
        else f"The migration declares {found.source!r}"
    )
    why = f"{how}: {_SIDES[found.phase]}.{back}"
    return StepPhase(phase=phase, source=found.source, why=why, delay=found.delay)


def _combined(
    judgements: list[Classification], sources: set[str], *, unread: str, backwards: bool
) -> StepPhase:
    names = _BACKWARDS if backwards else _FORWARDS
    sides = {judgement.phase for judgement in judgements} - {Phase.ANY}
    if len(sides) == 1:
        phase = next(iter(sides))
    else:
        phase = Phase.BEFORE_DEPLOY if sides else Phase.ANY  # the new release needs it
    fitting = [one.why for one in judgements if one.phase is phase]
    unsafe = next((one.unsafe for one in judgements if one.unsafe), "")
    return StepPhase(
        phase=phase,
        source=COMPUTED if sources == {COMPUTED} else "stage",
        why=_with_names(fitting[0] if fitting else "It has no operations.", names),
        is_mixed=len(sides) > 1,
        unsafe=_with_names(unsafe, names),
        not_understood=unread,
    )


def _with_names(text: str, names: Mapping[str, str]) -> str:
    for mark, name in names.items():
        text = text.replace(mark, name)
    return text[:1].upper() + text[1:]


def _in_the_graph(
    alone: dict[Key, StepPhase], loader: MigrationLoader, *, backwards: bool
) -> Phases:
    """Make each step wait for its dependencies; `alone` is in the plan's order."""
    found: dict[Key, StepPhase] = {}
    for key, phase in alone.items():
        node = loader.graph.node_map.get(key)
        around = () if node is None else node.children if backwards else node.parents
        after = sorted(
            other.key
            for other in around
            if other.key in found and found[other.key].carried_out is Phase.AFTER_DEPLOY
        )
        found[key] = _waiting(phase, after)
    return found


def _waiting(phase: StepPhase, after: list[Key]) -> StepPhase:
    behind = tuple(".".join(key) for key in after)
    if not behind or phase.phase is Phase.AFTER_DEPLOY:
        return replace(phase, behind=behind)
    why = f"{phase.why} It depends on {behind[0]}, which comes after the deploy."
    return replace(phase, why=why, behind=behind)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDeferral:
    at: str  # ISO 8601
    build: str


Deferrals = Mapping[str, FirstDeferral]
"""By "app.name"."""
NO_DEFERRALS: Deferrals = MappingProxyType({})
"""No step was ever deferred."""


def split_by_phase(
    steps: tuple[Step, ...], phase: Phase | None, deferrals: Deferrals, *, build: str
) -> tuple[tuple[Step, ...], tuple[Deferred, ...]]:
    """Return the steps of the requested phase and those that it leaves out, in order.

    A step whose delay has not passed is left out of both phases, with all that depends on
    it.
    """
    if phase is None:
        return steps, ()
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
    return tuple(chosen), tuple(left)


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
