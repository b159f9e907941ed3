"""Tests that an unknown user gets from a permit to the end of its run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.browser.conftest import ROOT, Demo, Visitor


def manage(demo: Demo, *words: str) -> dict[str, object]:
    """Run the command on the host of the demo, and return its output."""
    environment = {
        **os.environ,
        "DEMO_VAR": str(demo.database.parent),
        "DJANGO_SETTINGS_MODULE": "shop_project.settings",
    }
    told = subprocess.run(
        [sys.executable, "-m", "django", "migration_route", *words, "--json"],
        cwd=ROOT / "example",
        env=environment,
        capture_output=True,
        check=True,
    )
    found: dict[str, object] = json.loads(told.stdout)
    return found


@pytest.mark.timeout(420)
def test_a_permit_leads_to_the_end_of_its_run(demo: Demo, visitor: Visitor) -> None:
    """The permit is pasted, its plan is read, and its button pressed; used again, it shows
    its run without a button. No user has signed in."""
    plan = str(manage(demo, "plan")["fingerprint"])
    permit = str(manage(demo, "permit", plan, "--reason", "day one")["permit"])
    page = visitor.page
    page.goto(f"{demo.url}permit/")
    visitor.look("permit-empty")
    page.fill("#permit", permit)
    page.click("button:has-text('Open permit')")
    page.wait_for_selector("text=day one")
    visitor.look("permit-plan")
    page.click("button:has-text('Apply 4 migrations')")
    page.wait_for_selector("text=with a permit from")
    while page.locator("button:has-text('Refresh')").count():
        with page.expect_navigation():  # until the text matches
            page.click("button:has-text('Refresh')")
    assert page.locator("text=4 migrations applied and verified").count() == 1
    visitor.look("permit-done")

    page.goto(f"{demo.url}permit/")
    page.fill("#permit", permit)
    page.click("button:has-text('Open permit')")
    page.wait_for_selector("text=4 migrations applied and verified")
    assert page.locator("button:has-text('Apply')").count() == 0
    assert visitor.complaints == []
