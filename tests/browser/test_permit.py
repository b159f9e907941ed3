"""Does somebody whom nobody knows come from a permit to the end of its run?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.browser.conftest import ROOT, Demo, Visitor


def manage(demo: Demo, *words: str) -> dict[str, object]:
    """Run the command on the host of the demo, and read what it answers."""
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
    """It is pasted, its plan is read, and its button pressed; brought again, it shows
    its run and has no button any more. Nobody has signed in."""
    plan = str(manage(demo, "plan")["fingerprint"])
    permit = str(manage(demo, "permit", plan, "--reason", "day one")["permit"])
    page = visitor.page
    page.goto(f"{demo.url}permit/")
    visitor.look("permit-empty")
    page.fill("#permit", permit)
    page.click("button:has-text('Show what it is for')")
    page.wait_for_selector("text=day one")
    visitor.look("permit-plan")
    page.click("button:has-text('Apply 4 migrations')")
    page.wait_for_selector("text=with the permit of")
    while page.locator("button:has-text('Look again')").count():
        with page.expect_navigation():  # to the same words
            page.click("button:has-text('Look again')")
    assert page.locator("text=Done: 4 migrations applied").count() == 1
    visitor.look("permit-done")

    page.goto(f"{demo.url}permit/")
    page.fill("#permit", permit)
    page.click("button:has-text('Show what it is for')")
    page.wait_for_selector("text=Done: 4 migrations applied")
    assert page.locator("button:has-text('Apply')").count() == 0
    assert visitor.complaints == []
