"""Tests that a user sees when a run may start, and can check again or override."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.browser.conftest import Demo, Visitor

DONE = "text=4 migrations applied and verified."


@pytest.fixture(autouse=True)
def _window(monkeypatch: pytest.MonkeyPatch) -> None:
    opens = datetime.now(UTC) + timedelta(hours=3)
    window = {"start": f"{opens:%H:%M}", "end": f"{opens + timedelta(hours=1):%H:%M}"}
    monkeypatch.setenv("DEMO_WINDOWS", json.dumps([{**window, "timezone": "UTC"}]))


@pytest.mark.timeout(420)
def test_a_run_waits_for_its_window_and_begins_when_a_person_wants_it(
    demo: Demo, visitor: Visitor
) -> None:
    """The plan shows the opening in advance, the run until when it waits; after a new check
    it still waits; with the override it runs."""
    visitor.sign_in(demo, "admin")
    page = visitor.page
    page.click("text=Review plan")
    page.wait_for_selector("text=A run would wait until")
    visitor.look("plan-outside-its-windows")
    page.click("summary:has-text('Schedule')")
    visitor.look("plan-at-a-time")
    page.click("button:has-text('Apply 4 migrations')")
    page.wait_for_selector("text=Waiting: no window is open.")
    visitor.look("waits-for-its-window")

    page.fill("#resume-reason", "the settings may have changed")
    with page.expect_navigation():
        page.click("button:has-text('Check now')")
    page.wait_for_selector("text=Waiting: no window is open.")
    page.click("summary:has-text('Start now anyway')")
    page.fill("#open-it-reason", "the shop is shut")
    page.click("button:has-text('Start now')")
    page.wait_for_selector(DONE, timeout=120_000)
    visitor.look("begun-outside-its-windows")
    assert visitor.complaints == []
