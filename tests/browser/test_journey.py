"""Tests the pages from the login to the end of a run."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.browser.conftest import Demo, Visitor

BUTTON = "Apply 4 migrations to default"


def test_staff_read_the_plan_apply_it_and_watch_it_to_its_end(
    demo: Demo, visitor: Visitor
) -> None:
    """Every page on the way is accessible, and the browser reports no error."""
    visitor.sign_in(demo)
    page = visitor.page
    visitor.look("dashboard")
    assert page.locator(".mr-names li").count() == 4

    page.click("text=Review plan")
    page.locator(".mr-operations details").first.evaluate("found => found.open = true")
    visitor.look("plan")
    assert "CREATE TABLE" in page.locator("pre").first.inner_text()

    page.fill("#reason", "Release 42")
    page.click(f"text={BUTTON}")
    page.wait_for_selector(".mr-line--output:has-text('of 6000 orders have a total')")
    assert "Raw Python operation" in page.locator("[data-now]").inner_text()
    visitor.look("running")

    page.evaluate("window.stillThisPage = true")
    page.wait_for_selector("text=4 migrations applied and verified.")
    assert page.evaluate("window.stillThisPage")
    assert page.locator("[data-step-state]").all_inner_texts() == ["applied"] * 4
    texts = page.locator(".mr-line--output .mr-text").all_inner_texts()
    progress = [text for text in texts if "orders have a total" in text]
    assert progress == [
        f"{count} of 6000 orders have a total" for count in range(500, 6001, 500)
    ]
    assert page.locator("text=Cancel run").count() == 0
    visitor.look("run")

    page.reload()
    reloaded = page.locator(".mr-line--output .mr-text").all_inner_texts()
    assert reloaded == texts

    page.click("nav.mr-nav >> text=Databases")
    page.wait_for_selector("text=Up to date")
    visitor.look("dashboard-afterwards")
    page.click("nav.mr-nav >> text=Runs")
    page.wait_for_url("**/runs/")
    visitor.look("history")
    page.click("nav.mr-nav >> text=Ledger")
    page.click("text=Verify integrity")
    page.wait_for_selector("text=Ledger intact:")
    page.locator(".mr-row details").first.evaluate("found => found.open = true")
    visitor.look("ledger")
    assert visitor.complaints == []


def test_a_plan_that_goes_back_and_a_problem_are_as_readable(
    demo: Demo, visitor: Visitor
) -> None:
    """Dangerous plans and errors are shown in stressful situations."""
    visitor.sign_in(demo)
    visitor.page.goto(f"{demo.url}plan/?target=shop.0001")
    visitor.look("backwards")
    visitor.page.click("text=Reverse 1 migration on default")
    assert visitor.page.locator("#confirm:invalid").count() == 1
    assert visitor.complaints == []
    visitor.page.goto(f"{demo.url}plan/?target=shop.9999")
    visitor.look("problem")


def test_a_run_is_held_before_its_next_step_and_stopped_there(
    demo: Demo, visitor: Visitor
) -> None:
    """The current step completes, as the page says; then the run waits."""
    visitor.sign_in(demo)
    page = visitor.page
    page.click("text=Review plan")
    page.click(f"text={BUTTON}")
    page.wait_for_selector(".mr-line--output:has-text('of 6000 orders have a total')")
    page.fill("#pause-reason", "the sale")
    page.click("button:has-text('Pause')")
    page.wait_for_selector("text=Paused before its next step: 3 of 4 migrations applied.")
    page.locator("summary:has-text('Not stopping?')").click()
    visitor.look("paused")
    assert page.locator("button:has-text('Resume')").count() == 1
    page.fill("#cancel-reason", "the wrong night")
    page.click("text=Cancel run")
    page.wait_for_selector("text=Cancelled: 3 of 4 migrations applied.")
    assert page.locator("[data-step-state]").all_inner_texts() == [
        "applied",
        "applied",
        "applied",
        "not started",
    ]
    visitor.look("cancelled")
    assert visitor.complaints == []


def test_everything_works_without_a_script(
    demo: Demo, visitor_without_script: Visitor
) -> None:
    """The page of a run is complete, and a link reloads it."""
    visitor_without_script.sign_in(demo)
    page = visitor_without_script.page
    page.click("text=Review plan")
    page.click(f"text={BUTTON}")
    for _ in range(60):
        if page.locator("text=4 migrations applied and verified").count():
            break
        page.wait_for_timeout(1000)
        page.click("text=Refresh")
    page.wait_for_selector("text=6000 of 6000 orders have a total")
    assert page.locator("[data-step-state]").all_inner_texts() == ["applied"] * 4


def test_nobody_is_left_alone_when_users_cannot_be_read(
    demo: Demo, visitor: Visitor
) -> None:
    """The page says how to continue, in its own layout."""
    visitor.sign_in(demo)
    with closing(sqlite3.connect(demo.database)) as database:
        database.execute("ALTER TABLE auth_user RENAME TO auth_user_away")
    visitor.page.goto(demo.url)
    assert visitor.page.locator("text=Sign-in unavailable").count() == 1
    visitor.look("unrecognised")
