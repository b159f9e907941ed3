"""Fixtures for the browser tests: the real demo behind a real server, and a real
browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "demo-password"
_STARTS_WITHIN = 60.0
_OURS = {"exclude": [["#header"], [".breadcrumbs"]]}  # the admin's own elements
ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder; each starts a server and a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The example project, served."""

    url: str
    database: Path


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Start the demo from scratch, on its own port and in its own folder."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    log = tmp_path / "demo.log"
    var = tmp_path / "var"
    port = _free_port()
    with log.open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, ROOT / "example/demo.py", "--port", str(port)],
            env={
                **os.environ,
                "DEMO_PASSWORD": PASSWORD,
                "DEMO_VAR": str(var),
            },
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    try:
        yield Demo(url=_announced(process, log), database=var / "demo.sqlite3")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _announced(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the URL that the demo prints when it serves."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"Page +(\S+)", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"the demo does not start\n{log.read_text()}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium. Not for the whole session: an event loop runs in this thread
    meanwhile, in which other tests could not use Django's ORM."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=list(ARGUMENTS)
        )
        yield browser
        browser.close()


@dataclass(slots=True, kw_only=True)
class Visitor:
    """A user of a page, who checks it closely."""

    page: Page
    pictures: Path
    complaints: list[str] = field(default_factory=list)  # errors on the browser's console

    def sign_in(self, demo: Demo, name: str = "staff") -> None:
        """Sign in by the login of the admin."""
        self.page.goto(demo.url)
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", PASSWORD)
        self.page.click("[type=submit]")
        self.page.wait_for_url(demo.url)

    def look(self, name: str) -> None:
        """Check the page in light and dark mode and on a phone: every text has enough
        contrast, and nothing overflows."""
        from axe_playwright_python.sync_playwright import Axe

        page = self.page
        for kind, width, scheme in (
            ("light", 1200, "light"),
            ("dark", 1200, "dark"),
            ("narrow", 400, "light"),
        ):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.wait_for_timeout(300)  # the admin's links change their color slowly
            page.screenshot(path=self.pictures / f"{name}-{kind}.png", full_page=True)
            found = Axe().run(page, context=_OURS)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.set_viewport_size({"width": 1200, "height": 900})
        page.emulate_media(color_scheme="light")


@pytest.fixture
def visitor(chromium: Browser, tmp_path: Path) -> Iterator[Visitor]:
    """Open a window whose console is recorded."""
    pictures = Path(os.environ.get("BROWSER_PICTURES", tmp_path / "pictures"))
    pictures.mkdir(exist_ok=True)
    context = chromium.new_context()
    yield _visitor(context, pictures)
    context.close()


@pytest.fixture
def visitor_without_script(chromium: Browser, tmp_path: Path) -> Iterator[Visitor]:
    """Open a window that runs no script."""
    context = chromium.new_context(java_script_enabled=False)
    yield _visitor(context, tmp_path)
    context.close()


def _visitor(context: BrowserContext, pictures: Path) -> Visitor:
    page = context.new_page()
    page.set_default_timeout(30_000)
    found = Visitor(page=page, pictures=pictures)

    def listen(message: Any) -> None:
        is_favicon = message.location.get("url", "").endswith("/favicon.ico")
        if message.type in {"error", "warning"} and not is_favicon:
            found.complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    return found
