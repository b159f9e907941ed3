"""Tests of what the client sends when it applies, how often, and when it gives up."""

from __future__ import annotations

import pytest

from migration_route.cli.verbs import is_yes, question
from tests.client.conftest import Answers
from tests.client.test_answers import NO_EVENTS, RUN, problem

PLAN = {
    "database": "default",
    "vendor": "sqlite",
    "direction": "none",
    "mode": "apply",
    "targets": [],
    "fingerprint": "a-b-c",
    "build": "one",
    "transactional_ddl": True,
    "steps": [],
    "findings": [],
    "details_next": None,
    "phase": None,
    "deferred": [],
}
WAITING = {**RUN, "state": "awaiting_approval", "outcome": None, "ended": False}


@pytest.fixture
def route(server):
    """Return a server that executes what is requested."""
    server.say("GET plan", PLAN)
    server.say("POST runs", Answers(202, {**RUN, "state": "queued", "ended": False}))
    server.say("GET runs/7/events", NO_EVENTS)
    server.say("GET runs/7", RUN)
    return server


def test_only_what_is_said_is_sent(route, call):
    """An older server refuses a field that it does not know."""
    assert call("apply", "--yes").code == 0
    at = ["--at", "2026-12-01T22:00:00+01:00"]
    assert call("apply", "--yes", *at, "--mode", "fake", "--reason", "x").code == 0
    first, second = route.calls("POST runs")
    assert first.body == {"database": "default", "fingerprint": "a-b-c"}
    assert second.body == {**first.body, "at": at[1], "fake": True, "reason": "x"}
    keys = {asked.headers["Idempotency-Key"] for asked in (first, second)}
    assert len(keys) == 2


@pytest.mark.parametrize("at", ["22:00", "2026-12-01T22:00:00", "soon"])
def test_what_is_no_time_is_not_sent(route, call, at):
    """A time needs its zone: client and server may have different ones."""
    said = call("apply", "--yes", "--at", at)
    assert (said.code, "2026-12-01T" in said.error) == (2, True)
    assert route.calls("GET plan") == []


@pytest.mark.parametrize("needs", [True, False])
def test_the_question_says_what_comes_of_it(needs):
    """For a plan that needs approval, a yes requests it."""
    words = question(needs_approval=needs)
    assert ("Request approval" in words, "Apply this plan?" in words) == (needs, not needs)
    assert all(map(is_yes, ("y\n", "YES")))
    assert not any(map(is_yes, ("", "n", "yess")))


def test_a_request_to_apply_is_repeated_with_its_key(route, call):
    """Polls are repeated too: responses during a deploy are not final."""
    away = Answers(502, "<html>")
    begun = route.answers["POST", "/m/api/v1/runs"]
    route.say("POST runs", away, problem(503, "database_unavailable"), *begun)
    route.say("GET runs/7/events", away, NO_EVENTS)
    assert call("apply", "--yes").code == 0
    sent = route.calls("POST runs")
    assert len({asked.headers["Idempotency-Key"] for asked in sent}) == 1
    assert len(sent) == 3


def test_what_could_happen_twice_is_sent_once(route, call):
    """Whatever the timeout: the request may have arrived."""
    route.say("POST runs/7/cancel", Answers(502, "<html>"))
    assert call("cancel", "7", "--patience", "9s").code == 8
    assert len(route.calls("POST runs/7/cancel")) == 1


def test_a_run_that_could_not_start_is_not_asked_for_again(route, call):
    """Its 503 is final."""
    route.say("POST runs", problem(503, "launch_failed"))
    assert call("apply", "--yes").code == 1
    assert len(route.calls("POST runs")) == 1


def test_patience_has_an_end(route, call):
    """The error says so."""
    route.say("GET runs/7/events", Answers(504, "<html>"))
    said = call("apply", "--yes", "--patience", "1")
    assert said.code == 8
    assert "Retrying for 1 s" in said.error
    assert "migration-route watch 7" in said.error


def test_a_run_that_waits_for_an_approval_is_6(route, call):
    """At once, or after the given time."""
    route.say("POST runs", Answers(202, WAITING))
    route.say("GET runs/7", WAITING)
    said = call("apply", "--yes")
    assert (said.code, "awaits approval" in said.error) == (6, True)
    assert call("apply", "--yes", "--wait-for-approval", "1s").code == 6


@pytest.mark.parametrize(
    ("state", "code"), [("succeeded", 0), ("rejected", 4), ("expired", 6), ("stale", 5)]
)
def test_an_approval_is_waited_for(route, call, state, code):
    """Approved, rejected, or expired."""
    route.say("POST runs", Answers(202, WAITING))
    route.say("GET runs/7", WAITING, {**RUN, "state": state})
    assert call("apply", "--yes", "--wait-for-approval", "30s").code == code


def test_another_build_is_asked_again_until_it_is_the_one(route, call):
    """Both the plan and the run come from the requested build."""
    build = {"Migration-Route-Build": "one"}
    route.say("GET ready", Answers(200, {"ready": True}, build))
    begun = route.answers["POST", "/m/api/v1/runs"]
    route.say("POST runs", problem(409, "stale_code"), *begun)
    route.say("GET plan", {**PLAN, "build": "zero"}, PLAN)
    assert call("apply", "--yes", "--build", "one").code == 0
    first, second = route.calls("POST runs")
    assert first.body["build"] == "one"
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert len(route.calls("GET ready")) == 5
    assert len(route.calls("GET plan")) == 2


def test_a_build_that_does_not_come_is_5(route, call):
    """Whether the response, the plan or the run comes from another one."""
    words = ["apply", "--yes", "--build", "two", "--build-timeout", "0s"]
    route.say("GET ready", Answers(200, {}, {"Migration-Route-Build": "one"}))
    said = call(*words)
    assert (said.code, "'one'" in said.error, "'two'" in said.error) == (5, True, True)
    route.say("GET ready", Answers(502, "<html>"))
    assert call(*words).code == 8
    assert route.calls("POST runs") == []


def test_stale_code_without_a_wanted_build_is_told(route, call):
    """The caller decides what to do."""
    route.say("POST runs", problem(409, "stale_code"))
    assert call("apply", "--yes").code == 5


def test_a_run_to_be_resumed_is_followed(route, call):
    """As on the host."""
    route.say("POST runs/7/resolve", {**RUN, "state": "queued", "ended": False})
    assert call("resolve", "7", "--reason", "x", "--how", "continue").code == 0
    assert route.calls("POST runs/7/resolve")[0].body == {"reason": "x", "how": "continue"}
    assert route.calls("GET runs/7/events")


@pytest.mark.parametrize("verb", ["approve", "reject", "pause", "resume", "cancel"])
def test_what_is_asked_of_a_run(route, call, verb):
    """With a reason, and force where it exists."""
    route.say(f"POST runs/7/{verb}", RUN)
    assert call(verb, "7", "--reason", "because").code == 0
    assert route.calls(f"POST runs/7/{verb}")[0].body == {"reason": "because"}
    said = call(verb, "7", "--force")
    assert said.code == (0 if verb in {"resume", "cancel"} else 2)
