"""Is somebody whose login is too old led through the password to the run?"""

from __future__ import annotations

import pytest

from tests.browser.conftest import PASSWORD, Demo, Visitor
from tests.browser.test_journey import BUTTON


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo ask for the password after a second."""
    monkeypatch.setenv("DEMO_REAUTHENTICATE", "1s")


def test_a_stale_login_is_asked_and_the_run_begins(
    impatient: None, demo: Demo, visitor: Visitor
) -> None:
    """A wrong password is told, the right one leads to the run; every page can be read,
    and the browser has nothing to object to but the answer that says no."""
    visitor.sign_in(demo)
    page = visitor.page
    page.goto(f"{demo.url}plan/")
    page.fill("#reason", 'Release 42,\nwith <its> "quotes"')
    page.wait_for_timeout(1500)  # the login grows old
    page.click(f"text={BUTTON}")
    page.wait_for_selector("text=Password of staff")
    assert "Release 42" in page.locator(".mr-facts").inner_text()
    assert page.evaluate("document.activeElement.id") == "password"
    visitor.look("password")

    page.fill("#password", "not this one")
    page.click("text=Confirm and apply")
    page.wait_for_selector("text=This is not the password of 'staff'.")
    visitor.look("password-wrong")

    page.fill("#password", PASSWORD)
    page.click("text=Confirm and apply")
    page.wait_for_url("**/runs/*/")
    page.wait_for_selector(
        "text=Done: 4 migrations applied, and the database says so.", timeout=120_000
    )
    assert 'with <its> "quotes"' in page.locator("body").inner_text()
    assert page.locator("style, script:not([src]), [style]").count() == 0
    refusals = [text for text in visitor.complaints if "403 (Forbidden)" in text]
    assert visitor.complaints == refusals
