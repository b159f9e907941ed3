"""Tests that a plan is divided as the graph requires, whatever its shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migration_route.core import clock
from migration_route.core.enums import Phase
from migration_route.core.errors import InvalidRequest, RouteError
from migration_route.planning import graph as graphs
from migration_route.planning.phases import FirstDeferral
from migration_route.planning.plan import PlanRequest, same_plan
from migration_route.planning.planner import make_plan
from migration_route.services.plans import detailed_plan
from tests.factories import create_model
from tests.planning.histories import Invented, applied_sets, histories, written
from tests.planning.test_plan_property import record, root  # noqa: F401 - a fixture

BEFORE, AFTER = Phase.BEFORE_DEPLOY, Phase.AFTER_DEPLOY
NOTE = "('note', models.CharField(max_length=9, null=True))"


def plan_of(phase: Phase | None = None, *targets: str, deferrals=None):
    """Return the plan of a phase."""
    return make_plan(PlanRequest(phase=phase, targets=targets), deferrals or {})[0]


def names(plan) -> tuple[list[str], list[str]]:
    """Return the names of a plan's steps and of its deferred steps."""
    return [step.name for step in plan.steps], [left.name for left in plan.deferred]


def codes(phase: Phase | None = None) -> set[tuple[str, str, str | None]]:
    """Return the findings about phases: code, severity, step."""
    known = {
        "phase_ambiguous",
        "mixed_phases",
        "no_safe_phase",
        "before_deploy_pending",
        "phase_not_understood",
    }
    found = detailed_plan(PlanRequest(phase=phase)).findings
    return {(f.code, str(f.severity), f.step) for f in found if f.code in known}


@pytest.fixture
def shop(history):
    """Return a history whose first migration is applied."""
    history.write("0001_item", create_model("Item", NOTE))
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_item")
    return history


REMOVE = "migrations.RemoveField('item', 'note')"


def add(name: str) -> str:
    """Return the operation that adds a nullable column."""
    return f"migrations.AddField('item', '{name}', models.IntegerField(null=True))"


def test_a_plan_is_divided_by_its_phases(shop):
    """Additions come before, removals after; both have a reason and its origin."""
    shop.write("0002_add", add("size"))
    shop.write("0003_remove", REMOVE)
    before, after = plan_of(BEFORE), plan_of(AFTER)
    assert names(before) == (["0002_add"], ["0003_remove"])
    assert names(after) == (["0003_remove"], ["0002_add"])
    assert names(plan_of()) == (["0002_add", "0003_remove"], [])
    assert (
        before.deferred[0].phase.why
        == "The running release reads and writes testapp.Item.note."
    )
    assert before.steps[0].phase.source == "computed"
    assert codes() == set()


def test_any_is_everything(shop):
    """The result and the fingerprint are those without a phase."""
    shop.write("0002_remove", REMOVE)
    assert same_plan(plan_of(Phase.ANY).fingerprint, plan_of().fingerprint)


def test_the_fingerprint_binds_the_phase_and_what_it_leaves_out(shop):
    """The same steps in another phase, or with other deferred steps, are another plan."""
    shop.write("0002_add", add("size"))
    everything, before = plan_of(), plan_of(BEFORE)
    assert names(everything) == names(before)
    assert not same_plan(everything.fingerprint, before.fingerprint)
    path = shop.write("0003_remove", REMOVE)
    with_one = plan_of(BEFORE)
    assert not same_plan(with_one.fingerprint, before.fingerprint)
    path.write_text(path.read_text() + "# another\n")
    graphs.forget_graph("default")
    assert not same_plan(plan_of(BEFORE).fingerprint, with_one.fingerprint)


def test_a_step_before_the_deploy_behind_one_after_it_is_ambiguous(shop):
    """It is not reordered: the first phase is blocked, and the finding says so."""
    shop.write("0002_remove", REMOVE)
    shop.write("0003_add", add("size"))
    assert names(plan_of(BEFORE)) == ([], ["0002_remove", "0003_add"])
    assert names(plan_of(AFTER)) == (["0002_remove", "0003_add"], [])
    assert codes(BEFORE) == {("phase_ambiguous", "blocking", "testapp.0003_add")}
    assert codes() == {("phase_ambiguous", "info", "testapp.0003_add")}


def test_a_diamond_waits_where_one_of_its_sides_does(shop):
    """The side without a removal comes before, the merge with the other after."""
    shop.write("0002_remove", REMOVE)
    shop.write("0002_data", "migrations.RunSQL('SELECT 1')", after="0001_item")
    path = shop.write("0003_merge", after="0002_data")
    text = path.read_text().replace("]\n", ", ('testapp', '0002_remove')]\n", 1)
    path.write_text(text)
    before = plan_of(BEFORE)
    assert names(before)[0] == ["0002_data"]
    assert set(names(before)[1]) == {"0002_remove", "0003_merge"}
    assert before.deferred[-1].phase.waits_for == "testapp.0002_remove"


def test_operations_of_both_kinds_are_told(shop):
    """The step comes before, since the new release needs a part of it."""
    shop.write("0002_both", add("size"), REMOVE)
    assert names(plan_of(BEFORE)) == (["0002_both"], [])
    assert codes(BEFORE) == {("mixed_phases", "warning", "testapp.0002_both")}


def test_a_rename_suits_neither_side(shop):
    """It comes before, and the finding says what breaks."""
    shop.write("0002_rename", "migrations.RenameField('item', 'note', 'text')")
    assert names(plan_of(BEFORE)) == (["0002_rename"], [])
    assert codes(BEFORE) == {("no_safe_phase", "warning", "testapp.0002_rename")}


def test_a_declaration_outweighs_the_computation(shop):
    """Only the declaration is reported."""
    shop.write("0002_remove", REMOVE, body="phase = 'before_deploy'")
    shop.write("0003_add", add("size"), body="phase = 'after_deploy'")
    assert names(plan_of(BEFORE)) == (["0002_remove"], ["0003_add"])
    assert plan_of().steps[0].phase.source == "phase"


def test_a_word_that_is_no_phase_is_told_and_computed(shop):
    """A typing error is not ignored."""
    shop.write("0002_remove", REMOVE, body="phase = 'later'")
    assert names(plan_of(BEFORE)) == ([], ["0002_remove"])
    assert codes() == {("phase_not_understood", "warning", "testapp.0002_remove")}


def test_after_the_deploy_does_not_come_first(shop):
    """While something before it is pending, the second phase is blocked."""
    shop.write("0002_add", add("size"))
    shop.write("0003_remove", REMOVE)
    assert codes(AFTER) == {("before_deploy_pending", "blocking", None)}


def test_a_phase_that_stands_on_the_other_is_told_without_its_details(shop):
    """Its steps change objects that do not exist yet: nothing is computed, nothing
    fails."""
    shop.write("0002_made", create_model("Made"))
    operation = "migrations.AddField('made', 'x', models.IntegerField(null=True))"
    shop.write("0003_more", operation, body="phase = 'after_deploy'")
    found = detailed_plan(PlanRequest(phase=AFTER))
    assert names(found) == (["0003_more"], ["0002_made"])
    assert found.steps[0].operations[0].sql is None
    assert detailed_plan(PlanRequest(phase=BEFORE)).steps[0].operations[0].sql


def test_on_the_way_back_the_phases_change_places(shop):
    """The returning column comes first, the removed one waits for the deploy."""
    shop.write("0002_add", add("size"))
    shop.write("0003_remove", REMOVE)
    for name in ("0002_add", "0003_remove"):
        MigrationRecorder(connections["default"]).record_applied("testapp", name)
    target = "testapp.0001_item"
    assert names(plan_of(BEFORE, target)) == (["0003_remove"], ["0002_add"])
    assert names(plan_of(AFTER, target)) == (["0002_add"], ["0003_remove"])


def test_a_database_without_migrations_has_no_running_release(shop):
    """Everything comes before, even with another declaration."""
    shop.write("0002_remove", REMOVE)
    shop.write("0003_later", add("size"), body="phase = 'after_deploy'")
    recorder = MigrationRecorder(connections["default"])
    rows = list(recorder.migration_qs.values_list("app", "name"))
    recorder.migration_qs.exclude(app="migration_route").delete()
    try:
        assert plan_of(BEFORE).deferred == ()
    finally:
        for app, name in rows:
            recorder.record_applied(app, name)


def test_a_new_table_of_the_plan_is_complete_before_the_deploy(shop):
    """Its constraints and removals break no release."""
    shop.write("0002_made", create_model("Made", NOTE))
    shop.write("0003_less", "migrations.RemoveField('made', 'note')")
    shop.write("0004_unique", "migrations.AlterUniqueTogether('made', {('id',)})")
    assert names(plan_of(BEFORE)) == (["0002_made", "0003_less", "0004_unique"], [])


def test_a_delay_begins_when_it_is_first_put_off(shop):
    """Until then, and until it has passed, dependent migrations wait as well."""
    shop.write(
        "0002_remove",
        REMOVE,
        head="import datetime\n\nclass Safe:\n    when = 'after_deploy'\n"
        "    delay = datetime.timedelta(hours=1)\n",
        body="safe = Safe()",
    )
    shop.write("0003_data", "migrations.RunSQL('SELECT 1')")
    assert names(plan_of(AFTER)) == ([], ["0002_remove", "0003_data"])
    label = "testapp.0002_remove"
    now = {label: FirstDeferral(at=clock.now(), build="b")}
    assert names(plan_of(AFTER, deferrals=now)) == ([], ["0002_remove", "0003_data"])
    long_ago = {label: FirstDeferral(at="2020-01-01T00:00:00.000000Z", build="b")}
    assert names(plan_of(AFTER, deferrals=long_ago)) == (["0002_remove", "0003_data"], [])


def test_what_another_build_has_put_off_is_overdue(shop):
    """The other build's deploy is over; that of the current build is not."""
    shop.write("0002_remove", REMOVE)
    label, at = "testapp.0002_remove", clock.now()
    own = {label: FirstDeferral(at=at, build=plan_of().build)}
    other = {label: FirstDeferral(at=at, build="the one before")}
    assert not plan_of(BEFORE, deferrals=own).deferred[0].overdue
    left = plan_of(BEFORE, deferrals=other).deferred[0]
    assert (left.overdue, left.since, left.by) == (True, at, "the one before")


def test_a_phase_takes_one_target(shop):
    """Several targets are several migrates, each of which would meet the deferred steps."""
    with pytest.raises(InvalidRequest):
        plan_of(BEFORE, "testapp", "auth")


def test_a_migration_whose_state_cannot_be_followed_is_required(shop, caplog):
    """It is unknown whether the new release works without it."""
    shop.write("0002_broken", "migrations.RemoveField('nothing', 'note')")
    step = plan_of(BEFORE).steps[0]
    assert step.phase.is_required
    assert "cannot be read" in step.phase.why


PHASES = ("", "before_deploy", "after_deploy", "any")


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.django_db
@given(data=st.data())
def test_the_phases_partition_every_plan(root: Path, data: st.DataObject) -> None:  # noqa: F811
    """For any graph, applied set and declarations: each step is in one of the two phases,
    each phase is in Django's order, and nothing in the first one depends on something in
    the second."""
    history = data.draw(histories(), label="history")
    for made in history:
        _declare(made, data.draw(st.sampled_from(PHASES)))
    with written(history, root):
        record(data.draw(applied_sets(history), label="applied"))
        try:
            everything = plan_of()
        except RouteError:
            return
        before, after = plan_of(BEFORE), plan_of(AFTER)
        order = [step.label for step in everything.steps]
        chosen = [[step.label for step in plan.steps] for plan in (before, after)]
        assert sorted(chosen[0] + chosen[1]) == sorted(order)
        for plan, labels in zip((before, after), chosen, strict=True):
            assert labels == [label for label in order if label in set(labels)]
            left = [deferred.label for deferred in plan.deferred]
            assert left == [label for label in order if label not in set(labels)]
        graph = graphs.read_graph("default").loader.graph
        for label in chosen[0]:
            app, _, name = label.partition(".")
            needed = {".".join(parent.key) for parent in graph.node_map[app, name].parents}
            assert not needed & set(chosen[1])


def _declare(made: Invented, phase: str) -> None:
    made.comment = f"\n    phase = {phase!r}" if phase else ""
