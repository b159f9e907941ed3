"""Tests of the OpenTelemetry spans of a run, below the request that started it."""

from __future__ import annotations

import json
import os
import sys

import pytest
from django.test import Client
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from migration_route.core import subprocesses
from migration_route.core.clock import parse_time
from migration_route.core.enums import Action, RunState
from migration_route.ledger import runs
from migration_route.ledger.entries import Draft, write
from migration_route.ledger.queries import find_run
from migration_route.ledger.runs import create_run
from migration_route.notifications import otel
from tests.execution.runs import plan_to
from tests.factories import a_new_run

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def exported(monkeypatch):
    """Yield the exported spans, without changing the global provider."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(otel, "_tracer", lambda: provider.get_tracer("test"))
    yield exporter.get_finished_spans
    provider.shutdown()


def step(run: str, action: Action, **facts: object) -> None:
    write(
        Draft(action=action, run=run, database="default", facts={"step": "a.1", **facts}),
        patience=1,
    )


def a_traced_run(state: RunState, step_state: str | None) -> str:
    run, _ = create_run(a_new_run())
    with otel.traced(run.id):
        runs.move(run.id, to=RunState.RUNNING, expected={RunState.QUEUED})
        step(run.id, Action.STEP_STARTED, direction="forwards")
        if step_state:
            error = {"type": "E", "message": "no"} if step_state == "failed" else None
            step(run.id, Action.STEP_FINISHED, state=step_state, error=error)
        runs.move(run.id, to=state, expected={RunState.RUNNING})
    return run.id


def test_a_run_is_a_span_with_one_below_for_each_step(database, exported, monkeypatch):
    monkeypatch.setenv(subprocesses.TRACEPARENT, PARENT)
    run = find_run(a_traced_run(RunState.SUCCEEDED, "applied"))
    below, whole = exported()
    assert (whole.name, below.name) == ("migration run", "migration step a.1")
    assert whole.parent.span_id == int(SPAN, 16)
    assert whole.context.trace_id == below.context.trace_id == int(TRACE, 16)
    assert below.parent.span_id == whole.context.span_id
    assert whole.attributes["migration_route.run"] == run.id
    assert whole.attributes["migration_route.state"] == "succeeded"
    assert below.attributes["migration_route.state"] == "applied"
    assert whole.status.is_ok
    assert below.status.is_ok
    seconds = parse_time(run.finished_at).timestamp()
    assert abs(whole.end_time / 1e9 - seconds) < 1
    assert whole.start_time <= below.start_time <= below.end_time <= whole.end_time


def test_a_failure_is_an_error_of_the_step_and_of_the_run(database, exported):
    a_traced_run(RunState.FAILED, "failed")
    below, whole = exported()
    assert not below.status.is_ok
    assert below.status.description == "no"
    assert not whole.status.is_ok


def test_a_step_whose_end_is_not_on_record_ends_with_its_run(database, exported):
    a_traced_run(RunState.PARTIAL, None)
    below, whole = exported()
    assert not below.status.is_ok
    assert below.end_time == whole.end_time


def test_without_the_package_nothing_happens(database, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    a_traced_run(RunState.SUCCEEDED, "applied")
    with subprocesses.traceparent_scope(PARENT):
        assert subprocesses.current_traceparent() == PARENT


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (PARENT, PARENT),
        ("", ""),
        ("00-xyz", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"{PARENT}\nLD_PRELOAD=x", ""),
    ],
)
def test_only_a_trace_parent_gets_into_the_environment(monkeypatch, header, taken):
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
    monkeypatch.delenv(subprocesses.TRACEPARENT, raising=False)
    with subprocesses.traceparent_scope(header):
        assert subprocesses.environment().get(subprocesses.TRACEPARENT, "") == taken
    assert subprocesses.TRACEPARENT not in subprocesses.environment()


def test_the_span_that_is_open_here_goes_before_the_header(monkeypatch):
    tracer = TracerProvider().get_tracer("test")
    with (
        subprocesses.traceparent_scope(PARENT),
        tracer.start_as_current_span("a request") as span,
    ):
        found = span.get_span_context()
        current = subprocesses.current_traceparent()
        assert current.startswith(f"00-{found.trace_id:032x}-{found.span_id:016x}-")
        assert int(current[-2:], 16) & 1  # sampled
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.slow
def test_the_process_of_a_run_exports_what_a_request_began(
    history, settings, project, tmp_path, monkeypatch
):
    """From the header of the request, through the environment, to the exporter of the
    project; everything is exported when that process has ended."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.notifications.traced_app"]
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    monkeypatch.setenv("TRACED_APP_FILE", str(tmp_path / "spans"))
    monkeypatch.delenv(subprocesses.TRACEPARENT, raising=False)
    project()
    history.table("0001_a", "made_a")
    answer = Client().post(
        "/migrations/api/v1/runs",
        {
            "database": "default",
            "targets": ["testapp"],
            "fingerprint": plan_to("testapp").fingerprint,
            "reason": "a test",
        },
        content_type="application/json",
        headers={"Authorization": "Bearer deployer-secret", "traceparent": PARENT},
    )
    assert answer.status_code == 202, answer.content
    lines = (tmp_path / "spans").read_text().splitlines()
    below, whole = map(json.loads, lines)
    assert whole["name"] == "migration run"
    assert whole["parent_id"] == f"0x{SPAN}"
    assert whole["context"]["trace_id"] == f"0x{TRACE}"
    assert below["parent_id"] == whole["context"]["span_id"]
    assert whole["attributes"]["migration_route.run"] == answer.json()["id"]
    assert subprocesses.TRACEPARENT not in os.environ
