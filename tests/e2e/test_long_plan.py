"""Tests that the page of a long plan loads the rest piece by piece."""

from __future__ import annotations

from pathlib import Path

import django
import pytest

import migration_route
from tests.browser.conftest import CHROMIUM
from tests.harness.migrations import chain_of_tables
from tests.harness.pairs import on

STEPS = 120
STATIC = (
    Path(django.__file__).parent / "contrib/admin/static",
    Path(migration_route.__file__).parent / "static",
)


def serve_static(route) -> None:
    """Serve the static files, which this server leaves to another one."""
    name = route.request.url.partition("/static/")[2].partition("?")[0]
    found = [folder / name for folder in STATIC if (folder / name).exists()]
    route.fulfill(path=found[0]) if found else route.abort()


@pytest.mark.browser
@on("sqlite-gthread")
def test_a_long_plan_is_told_to_its_end_without_a_click(build, pair):
    """The first piece is there at once; the others are inserted after it."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    site = build(pair, chain_of_tables(STEPS), timeout=60)
    cookies = site.person("boss").http.cookies
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), chromium_sandbox=False
        )
        context = browser.new_context()
        context.add_cookies(
            [{"name": k, "value": v, "url": site.server.url} for k, v in cookies.items()]
        )
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/static/**", serve_static)
        page.goto(f"{site.server.url}/_m/plan/?database=default")
        assert page.locator("[data-step]").count() == STEPS
        page.wait_for_selector("[data-further]", state="detached", timeout=90_000)
        assert page.locator("[data-detailed]").count() == STEPS
        assert page.locator("[data-detailed] details").count() >= STEPS
        assert complaints == []
        browser.close()
