"""Tests that a run can be followed while it is running, and read afterwards."""

from __future__ import annotations

import json
from typing import Any

from tests.harness.client import API
from tests.harness.migrations import column, running
from tests.harness.pairs import on, on_each_once
from tests.harness.servers import ServerKind

TALK = """
print("before the gate")
pass_gate("talk")
print("after the gate")
"""
STREAM = {"Accept": "text/event-stream"}


@on("postgres-gthread")
def test_events_are_numbered_and_paged(build, pair):
    """The numbers increase by one; `after` returns the rest; the last page is marked as
    final."""
    site = build(
        pair,
        {
            "0002_sku": column("sku"),
            "0003_talk": running('print("told")', after="0002_sku"),
        },
    )
    ci = site.client("ci")
    run = ci.apply()
    path = f"runs/{run['id']}/events"
    everything = ci.events(run["id"])
    assert [event["number"] for event in everything] == list(range(1, len(everything) + 1))
    assert run["last_event"] == len(everything)
    rest = ci.get(path, after=3)
    assert rest["events"][0]["number"] == 4
    end = ci.get(path, after=len(everything))
    assert (end["events"], end["ended"], end["last"]) == ([], True, len(everything))
    kinds = [event["kind"] for event in everything]
    for kind in (
        "state",
        "step_started",
        "operation_started",
        "statement",
        "step_finished",
    ):
        assert kind in kinds, kinds
    steps = [event["step"] for event in everything if event["kind"] == "step_finished"]
    assert steps == [0, 1]
    statements = [event for event in everything if event["kind"] == "statement"]
    assert any("sku" in event["text"] for event in statements)
    assert all(event["duration_ms"] is not None for event in statements)


@on_each_once
def test_events_stream_as_they_come_and_resume(build, pair):
    """A stream shows a line while the migration waits; `Last-Event-ID` resumes after it."""
    site = build(pair, {"0002_talk": running(TALK)})
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("talk")
    address = f"{API}runs/{run['id']}/events"

    early = []
    with ci.http.stream("GET", address, headers=STREAM) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for event in streamed(answer):
            early.append(event)
            if event["data"].get("text") == "before the gate":
                break
    assert early[-1]["data"].get("text") == "before the gate"
    assert [event["id"] for event in early] == list(range(1, len(early) + 1))

    site.project.open_gate("talk")
    late: list[dict[str, Any]] = []
    while not (late and ends(late[-1])):
        seen = (late or early)[-1]["id"]
        headers = {**STREAM, "Last-Event-ID": str(seen)}
        with ci.http.stream("GET", address, headers=headers) as answer:
            late += streamed(answer)
        assert late, "the resumed stream brought nothing"
    assert late[0]["id"] == early[-1]["id"] + 1
    told = [event["data"] for event in [*early, *late]]
    assert told == ci.events(run["id"])
    assert ci.get(f"runs/{run['id']}")["state"] == "succeeded"


@on_each_once
def test_a_request_can_wait_for_the_end(build, pair):
    """`Prefer: wait` returns 200 with the ended run, or 202 when it has not ended by
    then."""
    site = build(
        pair,
        {
            "0002_sku": column("sku"),
            "0003_wait": running('pass_gate("w")', after="0002_sku"),
        },
    )
    ci = site.client("ci")
    waiting = {"Prefer": "wait=30"}
    answer = ci.ask_for_run(ci.plan("shop.0002_sku"), headers=waiting)
    if answer.status_code == 202 and pair.kind is ServerKind.SYNC:
        # This server would kill a request that waits longer than a few seconds.
        ci.wait_for_end(answer.json()["id"])
    else:
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "succeeded"
    answer = ci.ask_for_run(ci.plan(), headers={"Prefer": "wait=1"})
    assert answer.status_code == 202, answer.text
    assert not answer.json()["ended"]
    site.project.open_gate("w")
    assert ci.wait_for_end(answer.json()["id"])["state"] == "succeeded"


@on("sqlite-gthread", "postgres-sync")
def test_a_run_that_is_cancelled_stops_before_the_next_step(build, pair):
    """The current step is completed or rolled back; the next one never starts."""
    site = build(
        pair,
        {
            "0002_wait": running('pass_gate("wait")'),
            "0003_sku": column("sku", after="0002_wait"),
        },
    )
    ci, operator = site.client("ci"), site.client("operator")
    run = ci.run(ci.plan())
    site.project.await_gate("wait")
    path = f"runs/{run['id']}/cancel"
    assert ci.call("POST", path, json={"reason": "no"}).status_code == 403
    answer = operator.call("POST", path, json={"reason": "changed our minds"})
    assert answer.status_code in (200, 202), answer.text
    site.project.open_gate("wait")
    ended = ci.wait_for_end(run["id"])
    assert ended["state"] == "cancelled"
    assert ended["steps"][1]["state"] == "not_started"
    assert not site.has_column("sku")
    recorded = ended["steps"][0]["state"] == "applied"
    assert ("0002_wait" in site.applied()) is recorded
    reasons = [json.dumps(entry["facts"]) for entry in ci.entries()]
    assert any("changed our minds" in reason for reason in reasons)
    assert operator.call("POST", path, json={"reason": "again"}).status_code == 409


def streamed(answer):
    """Read server-sent events: their ids and their data."""
    number, data = None, []
    for line in answer.iter_lines():
        if line.startswith("id:"):
            number = int(line[3:])
        elif line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and number is not None and data:
            yield {"id": number, "data": json.loads("\n".join(data))}
            number, data = None, []


def ends(event):
    """Return whether this event is the last one."""
    data = event["data"]
    return data["kind"] == "state" and data["text"] in ("succeeded", "failed")
