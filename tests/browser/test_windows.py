"""Does a person see when a run may begin, and let it look again or begin all the same?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.browser.conftest import Demo, Visitor

DONE = "text=Done: 4 migrations applied, and the database says so."


@pytest.fixture(autouse=True)
def _window(monkeypatch: pytest.MonkeyPatch) -> None:
    opens = datetime.now(UTC) + timedelta(hours=3)
    window = {"from": f"{opens:%H:%M}", "to": f"{opens + timedelta(hours=1):%H:%M}"}
    monkeypatch.setenv("DEMO_WINDOWS", json.dumps([{**window, "timezone": "UTC"}]))


@pytest.mark.timeout(420)
def test_a_run_waits_for_its_window_and_begins_when_a_person_wants_it(
    demo: Demo, visitor: Visitor
) -> None:
    """The plan tells the opening beforehand, the run until when it waits; what looks
    again waits on; what is to begin all the same is done."""
    visitor.sign_in(demo, "admin")
    page = visitor.page
    page.click("text=Read the plan")
    page.wait_for_selector("text=A run would wait until")
    visitor.look("plan-outside-its-windows")
    page.click("text=Begin at another time")
    visitor.look("plan-at-a-time")
    page.click("button:has-text('Apply 4 migrations')")
    page.wait_for_selector("text=Waiting: no window is open.")
    visitor.look("waits-for-its-window")

    page.fill("#resume-reason", "the settings may have changed")
    with page.expect_navigation():
        page.click("button:has-text('Look again now')")
    page.wait_for_selector("text=Waiting: no window is open.")
    page.click("text=It is safe to begin now")
    page.fill("#open-it-reason", "the shop is shut")
    page.click("button:has-text('Begin now')")
    page.wait_for_selector(DONE, timeout=120_000)
    visitor.look("begun-outside-its-windows")
    assert visitor.complaints == []
