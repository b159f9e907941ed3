"""Tests that the page of a run shows its state, and that its buttons work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from migration_route.conf.databases import private_connection
from migration_route.core.enums import RunState, Scope, StepState, WaitingReason
from migration_route.ledger import queries, runs
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import PlanRequest
from migration_route.services.plans import detailed_plan
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.factories import History, a_new_run, a_step_record, vendor
from tests.web.conftest import SignIn

ARun = Callable[..., RunRecord]


def address(run: RunRecord, name: str = "run") -> str:
    """Return the URL of a run or of an action on it."""
    return reverse(f"migration_route:{name}", kwargs={"run": run.id})


def page_of(client: Client, run: RunRecord, **query: str) -> str:
    """Return the page of a run."""
    answer = client.get(address(run), query)
    assert answer.status_code == 200
    return answer.content.decode()


def only_run() -> RunRecord:
    """Return the only run."""
    (run,) = queries.list_runs(database=None, before=None, limit=2)
    return run


def test_a_finished_run_tells_its_steps_its_output_and_who_asked(
    everyone_can: Client, inline: History, apply_everything: Callable[[], None]
) -> None:
    """Complete without any script."""
    inline.table("0001_initial", "shelf")
    inline.python("0002_fill", "print('3 of 3 books')")
    apply_everything()
    text = page_of(everyone_can, only_run())
    assert "2 migrations applied and verified." in text
    assert "testapp.0001_initial started" in text
    assert "3 of 3 books" in text
    assert "data-active" not in text
    assert "Cancel run" not in text


def test_a_run_and_its_plan_show_the_expected_duration(
    everyone_can: Client, inline: History, apply_everything: Callable[[], None]
) -> None:
    """As it took before; a rehearsal and an export have no run to link to."""
    inline.table("0001_initial", "shelf")
    step = detailed_plan(PlanRequest()).steps[0]
    done = a_step_record(
        step.name, digest=step.digest, state=StepState.APPLIED, duration_ms=61_000
    )
    before, _ = runs.create_run(a_new_run(steps=(done,)))
    runs.move(before.id, to=RunState.FAILED, expected={RunState.QUEUED})
    plan = everyone_can.get(reverse("migration_route:plan")).content.decode()
    assert "Duration: expected 61.0 s" in plan
    assert f'<a href="{address(before)}">took 61.0 s on default' in plan
    apply_everything()
    (run, _) = queries.list_runs(database=None, before=None, limit=2)
    assert "Duration: expected 61.0 s" in page_of(everyone_can, run)


def test_a_failed_run_shows_the_error_at_its_operation(
    everyone_can: Client, inline: History
) -> None:
    """With the traceback, and the statement that nothing is half done."""
    inline.python("0001_initial", "raise ValueError('no <b>books</b>')")
    form = {
        "fingerprint": everyone_can.get("/migrations/api/v1/plan").json()["fingerprint"]
    }
    everyone_can.post(reverse("migration_route:apply"), form)
    run = only_run()
    text = page_of(everyone_can, run)
    assert run.state is RunState.FAILED
    assert "The failed step left nothing behind." in text
    assert "Operation 1: ValueError" in text
    assert "no &lt;b&gt;books&lt;/b&gt;" in text
    assert "Traceback" in text
    assert "Review plan</a>" in text


def test_a_run_under_way_can_be_followed_by_the_script(
    everyone_can: Client, a_run: ARun
) -> None:
    """The URLs of the JSON API are on the page, as data."""
    run = a_run()
    text = page_of(everyone_can, run)
    assert f'data-run="/migrations/api/v1/runs/{run.id}"' in text
    assert f'data-events="/migrations/api/v1/runs/{run.id}/events"' in text
    assert "data-active" in text
    assert "Refresh</a>" in text


def test_cancelling_stops_a_run_that_has_not_begun(
    everyone_can: Client, a_run: ARun
) -> None:
    """The ledger has the actor and the reason."""
    run = a_run()
    assert "Cancel run" in page_of(everyone_can, run)
    answer = everyone_can.post(address(run, "cancel"), {"reason": "the wrong night"})
    assert answer.status_code == 302
    assert answer["Location"] == address(run)
    assert only_run().state is RunState.CANCELLED
    entry = queries.list_entries(before=None, limit=1)[0]
    assert (entry.actor_name, entry.facts["reason"]) == ("ada", "the wrong night")


def test_a_run_that_has_ended_cannot_be_cancelled(
    everyone_can: Client, a_run: ARun
) -> None:
    """The page names its state."""
    run = a_run(RunState.CANCELLED)
    answer = everyone_can.post(address(run, "cancel"))
    assert answer.status_code == 409
    assert b"invalid_state" in answer.content


def test_the_cancel_button_is_for_those_who_operate(sign_in: SignIn, a_run: ARun) -> None:
    """Users with only the right to read see no button, and their form is refused."""
    run = a_run()
    reader = sign_in(Scope.READ)
    assert "Cancel run" not in page_of(reader, run)
    assert reader.post(address(run, "cancel")).status_code == 403
    assert only_run().state is RunState.QUEUED


def test_a_partial_run_says_what_to_do_and_is_resolved_with_a_reason(
    everyone_can: Client, a_run: ARun
) -> None:
    """The reason says what was corrected; without it the run stays partial."""
    run = a_run(RunState.PARTIAL)
    text = page_of(everyone_can, run)
    assert ">Resolution</h2>" in text
    assert "Resolve and unlock default</button>" in text
    assert everyone_can.post(address(run, "resolve"), {"reason": " "}).status_code == 400
    assert only_run().state is RunState.PARTIAL
    answer = everyone_can.post(address(run, "resolve"), {"reason": "dropped the index"})
    assert answer.status_code == 302
    assert only_run().state is RunState.RESOLVED


def test_only_those_who_may_resolve_see_the_form(sign_in: SignIn, a_run: ARun) -> None:
    """Every reader sees what to do; the others also see which right it takes."""
    run = a_run(RunState.PARTIAL)
    operator = sign_in(Scope.OPERATE)
    text = page_of(operator, run)
    assert ">Resolution</h2>" in text
    assert "migration_route.resolve" in text
    assert "</textarea>" not in text
    assert operator.post(address(run, "resolve"), {"reason": "x"}).status_code == 403
    assert only_run().state is RunState.PARTIAL


def test_a_dashboard_leads_to_the_run_that_has_to_be_resolved(
    everyone_can: Client, a_run: ARun
) -> None:
    run = a_run(RunState.PARTIAL)
    text = everyone_can.get(reverse("migration_route:dashboard")).content.decode()
    assert "stopped partway" in text
    assert address(run) in text


@pytest.mark.parametrize("name", ["cancel", "resolve"])
def test_the_forms_of_a_run_need_a_token_of_this_site(
    sign_in: SignIn, a_run: ARun, name: str
) -> None:
    """Another site cannot submit these forms either."""
    run = a_run(RunState.PARTIAL if name == "resolve" else RunState.QUEUED)
    answer = sign_in(*Scope, csrf=True).post(address(run, name), {"reason": "forged"})
    assert answer.status_code == 403
    assert only_run().state is run.state


def test_a_reason_has_a_length(everyone_can: Client, a_run: ARun) -> None:
    """A text that is too long is refused, not truncated."""
    answer = everyone_can.post(address(a_run(), "cancel"), {"reason": "x" * 2001})
    assert answer.status_code == 400
    assert only_run().state is RunState.QUEUED


def test_a_long_run_is_read_in_pages(
    everyone_can: Client, inline: History, apply_everything: Callable[[], None]
) -> None:
    """The last lines come first, and link to the earlier ones."""
    inline.python("0001_initial", "for n in range(700): print(f'line {n}.')")
    apply_everything()
    text = page_of(everyone_can, only_run())
    assert "line 699." in text
    assert "line 3." not in text
    assert "Earlier lines</a>" in text
    earlier = page_of(everyone_can, only_run(), after="0")
    assert "line 3." in earlier
    assert "line 699." not in earlier
    assert "Later lines</a>" in earlier


def test_history_is_paged_from_the_newest_on(everyone_can: Client, a_run: ARun) -> None:
    """Older runs are one link away."""
    made = [a_run(RunState.CANCELLED).id for _ in range(27)]
    history = reverse("migration_route:history")
    first = everyone_can.get(history).content.decode()
    assert made[-1] in first
    assert made[0] not in first
    assert f"?before={made[2]}" in first
    rest = everyone_can.get(history, {"before": made[2]}).content.decode()
    assert made[0] in rest
    assert made[-1] not in rest
    assert "Newest</a>" in rest


def test_a_run_is_held_and_resumed_on_its_page(everyone_can: Client, a_run: ARun) -> None:
    """One button replaces the other; the reason is on the ledger."""
    run = a_run(RunState.RUNNING)
    text = page_of(everyone_can, run)
    assert ">Pause</button>" in text
    assert "Resume</button>" not in text
    answer = everyone_can.post(address(run, "pause"), {"reason": "the sale"})
    assert answer["Location"] == address(run)
    assert only_run().control_request == "pause"
    text = page_of(everyone_can, run)
    assert "The run pauses before its next step" in text
    assert ">Pause</button>" not in text
    assert "Resume</button>" in text
    everyone_can.post(address(run, "resume"), {"reason": "over"})
    assert only_run().control_request == ""
    entry = queries.list_entries(before=None, limit=1)[0]
    assert (entry.action, entry.facts["reason"]) == ("resumed", "over")


def test_a_held_run_says_so(everyone_can: Client, a_run: ARun) -> None:
    """And that its lock is kept."""
    text = page_of(everyone_can, a_run(RunState.PAUSED))
    assert "Paused before its next step" in text
    assert "keeps its lock" in text
    assert "Resume</button>" in text


def test_force_is_offered_to_those_who_may(sign_in: SignIn, a_run: ARun) -> None:
    """A user with only the right to operate sees the other buttons, and is refused a form
    with it."""
    run = a_run(RunState.RUNNING)
    operator = sign_in(Scope.OPERATE)
    text = page_of(operator, run)
    assert "Cancel run" in text
    assert "Force stop" not in text
    assert operator.post(address(run, "cancel"), {"force": "1"}).status_code == 403
    assert only_run().state is RunState.RUNNING


def test_force_stops_a_run_from_its_page(sign_in: SignIn, a_run: ARun) -> None:
    """It has no process: it is concluded at once."""
    run = a_run(RunState.RUNNING)
    person = sign_in(Scope.FORCE)
    text = page_of(person, run)
    assert "Force stop" in text
    assert "Cancel run" not in text
    person.post(address(run, "cancel"), {"force": "1", "reason": "it hangs"})
    assert only_run().state is RunState.CANCELLED


def test_the_session_of_a_lost_run_is_named(everyone_can: Client, a_run: ARun) -> None:
    """With its activity, and the button that ends it."""
    session = {
        "pid": 4711,
        "user": "shop",
        "application": "",
        "query": "SELECT <1>",
        "since": "2026-01-01T00:00:00Z",
        "state": "active",
    }
    run = a_run(RunState.RUNNING)
    change = runs.Change(
        waiting_reason="orphaned_session", waiting_facts={"session": session}
    )
    connection = private_connection("default")
    lock = vendor_of("default").lock(connection, LockSlot.SUPERVISOR)
    assert lock.try_acquire()  # otherwise viewing the run would conclude it
    runs.move(run.id, to=RunState.LOST, expected={RunState.RUNNING}, change=change)
    text = page_of(everyone_can, run)
    lock.release()
    connection.close()
    assert "4711" in text
    assert "SELECT &lt;1&gt;" in text
    assert "Terminate session" in text


FACTS = {
    "attempt": 7,
    "fired": False,
    "tables": ["public.shop_item"],
    "wanted": [["public.shop_item", "AccessExclusiveLock"]],
    "blocking_ms": 500,
    "waited_ms": 4200,
    "blockers": [
        {
            "pid": 31337,
            "user": "report",
            "application": "nightly",
            "query": "SELECT '<b>' FROM shop_item",
            "since": "2026-01-01T03:00:00.000000Z",
            "state": "idle in transaction",
            "begun": "then",
            "certain": True,
        }
    ],
}


@pytest.fixture
def blocked(a_run: ARun) -> RunRecord:
    """Record a run that is blocked by another session's locks."""
    run = a_run(RunState.RUNNING)
    change = runs.Change(waiting_reason=WaitingReason.BLOCKED, waiting_facts=FACTS)
    return runs.move(
        run.id, to=RunState.WAITING, expected={RunState.RUNNING}, change=change
    )


def test_a_run_that_waits_for_locks_names_who_is_in_the_way(
    everyone_can: Client, blocked: RunRecord
) -> None:
    """Pid, user, state, since when, and the query as text; as in the API."""
    text = page_of(everyone_can, blocked)
    assert "Blocked by another session." in text
    for shown in (
        "pid 31337",
        "report, nightly",
        "idle in transaction",
        "SELECT &#x27;&lt;b&gt;&#x27; FROM shop_item",
        "public.shop_item",
        "Attempt 7",
        "gives up after 5 min 0 s",
    ):
        assert shown in text
    statements = {
        "postgresql": "SELECT pg_terminate_backend(31337);",
        "mysql": "KILL CONNECTION 31337;",
    }
    statement = statements.get(vendor())
    assert ("Terminate it by hand" in text) == (statement is not None)
    assert statement is None or statement in text
    answer = everyone_can.get(f"/migrations/api/v1/runs/{blocked.id}").json()["waiting"]
    assert (answer["reason"], answer["attempt"]) == ("blocked", 7)
    assert (answer["blocking_ms"], answer["waited_ms"]) == (500, 4200)
    assert answer["blockers"][0]["pid"] == 31337
    assert "begun" not in answer["blockers"][0]


def test_the_button_that_ends_others_is_there_where_it_is_set(
    sign_in: SignIn, blocked: RunRecord, settings: Any
) -> None:
    """Where the setting is on; otherwise the refusal names it."""
    button, form = "Terminate these sessions", {"reason": "left open"}
    holder = sign_in(Scope.FORCE)
    assert button not in page_of(holder, blocked)
    refused = holder.post(address(blocked, "terminate-blockers"), form)
    assert refused.status_code == 409
    assert b"terminate_blockers_disabled" in refused.content
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "DATABASES": {"default": {"allow_terminate_blockers": True}},
    }
    assert button in page_of(holder, blocked)


def test_whoever_lacks_the_right_cannot_end_others(
    sign_in: SignIn, blocked: RunRecord, settings: Any
) -> None:
    """An operator neither sees the button nor may submit its form."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "DATABASES": {"default": {"allow_terminate_blockers": True}},
    }
    operator = sign_in(Scope.OPERATE)
    assert "Terminate these sessions" not in page_of(operator, blocked)
    form = {"reason": "left open"}
    assert operator.post(address(blocked, "terminate-blockers"), form).status_code == 403


def test_a_failed_step_shows_where_the_project_failed(
    everyone_can: Client, inline: History, settings: Any
) -> None:
    """The last frame of the project's own code, above the whole traceback."""
    inline.python("0001_fill", "raise ValueError('2 items have no price')")
    plan = detailed_plan(PlanRequest())
    everyone_can.post(reverse("migration_route:apply"), {"fingerprint": plan.fingerprint})
    run = only_run()
    assert run.state is RunState.FAILED
    text = page_of(everyone_can, run)
    step = text[text.index("testapp.0001_fill</h3>") : text.index('id="happened"')]
    assert "0001_fill.py, line" in step
    assert "raise ValueError(&#x27;2 items have no price&#x27;)" in step
    assert "Traceback (most recent call last)" in step
    assert "<title>✗ 0/1 default" in text


def test_the_page_says_who_paused_a_run_and_why(everyone_can: Client, a_run: ARun) -> None:
    """In the headline, and among what users did."""
    run = a_run(RunState.RUNNING)
    everyone_can.post(address(run, "pause"), {"reason": "Waiting for the DBA"})
    runs.move(run.id, to=RunState.PAUSED, expected={RunState.RUNNING})
    text = page_of(everyone_can, run)
    assert "Paused by <strong>ada</strong>" in text
    assert text.count("Waiting for the DBA") == 2
    assert "<title>⏸ 0/1 default" in text


def test_a_run_that_waits_for_approval_shows_its_plan(
    everyone_can: Client, history: History, settings: Any
) -> None:
    """With its findings and its steps."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "APPROVALS": {"when": "always"},
    }
    history.table("0001_initial", "shelf")
    plan = detailed_plan(PlanRequest())
    everyone_can.post(reverse("migration_route:apply"), {"fingerprint": plan.fingerprint})
    text = page_of(everyone_can, only_run())
    assert "Requested steps" in text
    assert "Risk: " in text
    assert "CREATE TABLE shelf" in re.sub(r"</?span[^>]*>", "", text)
