"""Tests an approval by two users in two browsers, from the plan to the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Demo, Visitor, _visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser


DONE = "text=4 migrations applied and verified."
_LONG = 120_000  # milliseconds: a whole run, on a shared machine


pytestmark = pytest.mark.timeout(420)  # two browsers, and each page is checked


@pytest.fixture(autouse=True)
def _policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_APPROVALS", "{}")


@pytest.fixture
def approver(chromium: Browser, visitor: Visitor) -> Iterator[Visitor]:
    """Open a second browser without the cookies of the first one."""
    context = chromium.new_context()
    yield _visitor(context, visitor.pictures)
    context.close()


def ask(requester: Visitor) -> None:
    """Read the plan, and request its approval."""
    page = requester.page
    page.click("text=Review plan")
    page.fill("#reason", "Release 42")
    assert page.locator("text=This plan needs 1 approval by another user").count() == 1
    page.click("button:has-text('Request approval')")
    page.wait_for_selector("text=Waiting for approval: nothing has started.")
    page.evaluate("window.stillThisPage = true")


def find(approver: Visitor, demo: Demo) -> None:
    """Open the waiting run from the first page."""
    approver.sign_in(demo, "admin")
    approver.page.click("text=Review request")
    approver.page.wait_for_selector("#agree")


def test_one_asks_the_other_approves_and_the_first_page_moves_on(
    demo: Demo, visitor: Visitor, approver: Visitor
) -> None:
    """The requester cannot approve; the approver reads the SQL on the same page; and both
    see the run end without reloading a page."""
    visitor.sign_in(demo)
    visitor.page.click("text=Review plan")
    visitor.look("plan-that-needs-approval")
    visitor.page.goto(demo.url)
    ask(visitor)
    assert visitor.page.locator("text=You requested this run").count() == 1
    assert visitor.page.locator("button:has-text('Approve')").count() == 0
    assert (
        visitor.page.locator("[data-step-state]").all_inner_texts() == ["not started"] * 4
    )
    visitor.look("waits-for-its-requester")

    find(approver, demo)
    page = approver.page
    page.go_back()
    approver.look("dashboard-that-waits")
    page.go_forward()
    fingerprint = visitor.page.locator(".mr-facts code").all_inner_texts()[-2]
    assert page.locator(f"code:has-text('{fingerprint}')").count() >= 1
    details = page.locator(".mr-operations details")
    details.first.evaluate("found => found.open = true")
    assert "CREATE TABLE" in page.locator(".mr-operations pre").first.inner_text()
    approver.look("waits-for-its-approver")
    page.fill("#approve-reason", "read it twice")
    page.click("button:has-text('Approve')")
    page.wait_for_selector(DONE, timeout=_LONG)

    page = visitor.page
    page.wait_for_selector(DONE, timeout=_LONG)
    assert page.evaluate("window.stillThisPage")
    assert page.locator("[data-step-state]").all_inner_texts() == ["applied"] * 4
    assert page.locator(".mr-activity >> text=read it twice").count() == 1
    assert page.locator("#agree").count() == 0
    assert page.locator("text=Requested plan").count() == 0
    visitor.look("was-approved")
    assert visitor.complaints == []
    assert approver.complaints == []


def test_a_rejection_reaches_whoever_asked_with_its_reason(
    demo: Demo, visitor: Visitor, approver: Visitor
) -> None:
    """Without a reason the browser does not submit the form."""
    visitor.sign_in(demo)
    ask(visitor)
    find(approver, demo)
    approver.page.click("button:has-text('Reject')")
    assert approver.page.locator("#reject-reason:invalid").count() == 1
    approver.page.fill("#reject-reason", "not on a Friday")
    approver.page.click("button:has-text('Reject')")
    approver.page.wait_for_selector("text=Rejected: nothing was started.")
    visitor.page.wait_for_selector("text=Rejected: nothing was started.")
    assert visitor.page.evaluate("window.stillThisPage")
    assert visitor.page.locator(".mr-headline >> text=not on a Friday").count() == 1
    visitor.look("rejected")
    assert visitor.complaints == []
    assert approver.complaints == []
