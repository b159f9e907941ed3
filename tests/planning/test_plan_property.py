"""Property tests that a plan equals what Django's executor executes, in its order, for any
graph, applied migrations and targets.

Generated histories are written as real modules and recorded in the real recorder. This
package plans them, and a fresh executor migrates them as `manage.py migrate` does.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.db.migrations import Migration
from django.db.migrations.exceptions import (
    AmbiguityError,
    CircularDependencyError,
    InconsistentMigrationHistory,
    InvalidMigrationPlan,
    NodeNotFoundError,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from migration_route.core.errors import RouteError
from migration_route.planning.plan import Plan, PlanRequest, same_plan
from migration_route.planning.planner import make_plan
from tests.planning.histories import (
    OWN_APP,
    History,
    Key,
    applied_sets,
    histories,
    requests,
    written,
)

pytestmark = pytest.mark.django_db

repeatable = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    # The recorder is emptied for each example, and one transaction contains them all.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder from which modules are imported without writing bytecode."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("histories")
        patch.syspath_prepend(folder)
        patch.setattr(sys, "dont_write_bytecode", True)
        yield folder


def record(applied: frozenset[Key]) -> None:
    """Set the contents of the recorder."""
    recorder = MigrationRecorder(connection)
    recorder.migration_qs.all().delete()
    for app, name in sorted(applied):
        recorder.record_applied(app, name)


Answer = str | list[tuple[str, str, bool]]
"""The code of a refusal, or the steps: app, name, whether backwards."""


def django_answers(applied: frozenset[Key], targets: tuple[str, ...]) -> Answer:
    """Migrate to each target with a fresh executor, and return the steps in their order of
    execution; the next executor finds what this one has recorded."""
    record(applied)
    steps: list[tuple[str, str, bool]] = []
    try:
        for target in targets or ("",):
            answer = _migrated(target)
            if isinstance(answer, str):
                return answer
            steps += answer
            if len({way for *_, way in steps}) > 1:
                return "invalid_request"
    finally:
        record(applied)
    return steps


def _migrated(target: str) -> Answer:
    try:
        executor = MigrationExecutor(connection)
    except (NodeNotFoundError, CircularDependencyError):
        return "broken_migrations"
    loader = executor.loader
    try:
        loader.check_consistent_history(connection)
    except InconsistentMigrationHistory:
        return "inconsistent_history"
    if loader.detect_conflicts():
        return "conflict"
    try:
        keys = _keys(target, executor) if target else loader.graph.leaf_nodes()
        plan = executor.migration_plan(keys)
    except (AmbiguityError, KeyError, NodeNotFoundError):
        # The last: Django 5.2 does not migrate to what a squashed migration replaces.
        return "unknown_target"
    carried_out: list[tuple[str, str, bool]] = []

    def note(action: str, migration: Migration | None = None, *_: object) -> None:
        if migration is not None and action in {"apply_start", "unapply_start"}:
            step = (migration.app_label, migration.name, action == "unapply_start")
            carried_out.append(step)

    executor.progress_callback = note
    try:
        executor.migrate(keys, plan=plan, fake=True)
    except InvalidMigrationPlan:
        return "invalid_request"
    if carried_out != [(one.app_label, one.name, back) for one, back in plan]:
        event("carried out in another order than planned")
    return [step for step in carried_out if step[0] != OWN_APP]


def _keys(target: str, executor: MigrationExecutor) -> list[tuple[str, str | None]]:
    """Find a target as django.core.management.commands.migrate does."""
    loader = executor.loader
    app, _, name = target.partition(".")
    if not name:
        return [key for key in loader.graph.leaf_nodes() if key[0] == app]
    if name == "zero":
        return [(app, None)]
    key = (app, loader.get_migration_by_prefix(app, name).name)
    if key not in loader.graph.nodes and key in loader.replacements:
        key = loader.replacements[key].replaces[-1]
    return [key]


def route_answers(targets: tuple[str, ...]) -> tuple[Answer, Plan | None]:
    """Return the plan of this package."""
    try:
        plan, _ = make_plan(PlanRequest(targets=targets))
    except RouteError as error:
        return error.code, None
    steps = [(step.app, step.name, step.direction == "backwards") for step in plan.steps]
    return steps, plan


@repeatable
@given(data=st.data())
def test_the_plan_is_that_of_djangos_executor(root: Path, data: st.DataObject) -> None:
    """For every graph, applied set and target, the steps or the refusal equal Django's."""
    history = data.draw(histories(), label="history")
    with written(history, root):
        for _ in range(2):  # the second time with a cached graph
            applied = data.draw(applied_sets(history), label="applied")
            for targets in data.draw(st.lists(requests(history), min_size=2, max_size=4)):
                expected = django_answers(applied, targets)
                event(_kind(expected))
                for word in _squashes_as_they_stand(history, applied):
                    event(word)

                assert route_answers(targets)[0] == expected, targets


@repeatable
@given(data=st.data())
def test_a_fingerprint_names_one_plan(root: Path, data: st.DataObject) -> None:
    """Two fingerprints are equal exactly when steps, sources, targets and applied set
    are."""
    history = data.draw(histories(), label="history")
    seen = []
    with written(history, root) as files:
        applied = data.draw(applied_sets(history), label="applied")
        targets = data.draw(requests(history), label="targets")
        changes = st.lists(st.sampled_from(CHANGES), min_size=1, max_size=4)
        for change in ("nothing", *data.draw(changes)):
            match change:
                case "applied":
                    applied = data.draw(applied_sets(history), label="applied")
                case "targets":
                    targets = data.draw(requests(history), label="targets")
                case "source":
                    made = data.draw(st.sampled_from(history))
                    made.comment = data.draw(st.sampled_from(["", "a word", "two words"]))
                    files[made.key].write_text(made.text())
            record(applied)
            _, plan = route_answers(targets)
            if plan is not None:
                seen.append((_essence(plan, applied, files), plan.fingerprint))
    for (left, left_name), (right, right_name) in itertools.combinations(seen, 2):
        event("the same plan" if left == right else "another plan")
        assert same_plan(left_name, right_name) is (left == right)


CHANGES = ("nothing", "applied", "targets", "source")


def _essence(plan: Plan, applied: frozenset[Key], files: dict[Key, Path]) -> object:
    """Return all that a fingerprint identifies, read independently of this package."""
    steps = [
        (
            step.label,
            step.direction,
            hashlib.sha256(files[step.app, step.name].read_bytes()).hexdigest(),
        )
        for step in plan.steps
    ]
    return plan.targets, steps, applied


def _kind(answer: Answer) -> str:
    if isinstance(answer, str):
        return answer
    if not answer:
        return "nothing to do"
    return "backwards" if answer[0][2] else "forwards"


def _squashes_as_they_stand(history: History, applied: frozenset[Key]) -> Iterator[str]:
    for made in history:
        if made.replaces:
            count = len(applied.intersection(made.replaces))
            part = "all" if count == len(made.replaces) else "a part" if count else "none"
            noted = " and itself" if made.key in applied else ""
            yield f"squashed: {part} applied{noted}"
