"""Tests that a user with a stale login gets to the run by entering the password."""

from __future__ import annotations

import pytest

from tests.browser.conftest import PASSWORD, Demo, Visitor
from tests.browser.test_journey import BUTTON


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the demo require the password after a second."""
    monkeypatch.setenv("DEMO_REAUTHENTICATION", "1s")


def test_a_stale_login_is_asked_and_the_run_begins(
    impatient: None, demo: Demo, visitor: Visitor
) -> None:
    """A wrong password is reported, the right one leads to the run; every page is
    accessible, and the browser reports no error except for the refused response."""
    visitor.sign_in(demo)
    page = visitor.page
    page.goto(f"{demo.url}plan/")
    page.fill("#reason", 'Release 42,\nwith <its> "quotes"')
    page.wait_for_timeout(1500)  # the login becomes stale
    page.click(f"text={BUTTON}")
    page.wait_for_selector("text=Password for staff")
    assert "Release 42" in page.locator(".mr-facts").inner_text()
    assert page.evaluate("document.activeElement.id") == "password"
    visitor.look("password")

    page.fill("#password", "not this one")
    page.click("text=Confirm and apply")
    page.wait_for_selector("text=The password for 'staff' is wrong.")
    visitor.look("password-wrong")

    page.fill("#password", PASSWORD)
    page.click("text=Confirm and apply")
    page.wait_for_url("**/runs/*/")
    page.wait_for_selector("text=4 migrations applied and verified.", timeout=120_000)
    assert 'with <its> "quotes"' in page.locator("body").inner_text()
    assert page.locator("style, script:not([src]), [style]").count() == 0
    refusals = [text for text in visitor.complaints if "403 (Forbidden)" in text]
    assert visitor.complaints == refusals
