"""Take pictures of the staff pages in every state, in light and dark mode, wide and narrow.

    python -m tests.screenshots [--folder DIR] [--database sqlite|postgres] [NAME ...]

Each state is a story of `tests.screenshots.stories`, told on a project of its own behind a
real server. NAME chooses stories; without one, all are told.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.harness import databases
from tests.harness.prepared import MAKE_PEOPLE
from tests.harness.project import PASSWORD, Project
from tests.harness.servers import ServerKind, WebServer
from tests.screenshots.stories import STORIES, Camera, Story

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_WSGI = """
import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.settings")
application = StaticFilesHandler(get_wsgi_application())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("screenshots"))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these stories")
    options = parser.parse_args()
    if unknown := set(options.names) - set(STORIES):
        parser.error(f"No such stories: {', '.join(sorted(unknown))}. See {list(STORIES)}.")
    options.folder.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=list(ARGUMENTS)
        )
        for name in options.names or STORIES:
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()
            _tell(STORIES[name], browser, options.folder, options.database)
        browser.close()


def _tell(story: Story, browser: Browser, folder: Path, vendor: str) -> None:
    with _served(story, vendor) as (project, url), browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{url}/admin/login/?next=/_m/")
        _sign_in(page)
        story.tell(Camera(page=page, project=project, url=f"{url}/_m/", folder=folder))


def _sign_in(page: Page) -> None:
    page.fill("#id_username", "boss")
    page.fill("#id_password", PASSWORD)
    page.click("[type=submit]")
    page.wait_for_url("**/_m/")


@contextmanager
def _served(story: Story, vendor: str) -> Iterator[tuple[Project, str]]:
    with tempfile.TemporaryDirectory(prefix="screenshots-") as text, ExitStack() as stack:
        folder = Path(text)
        created = {}
        for alias in story.aliases:
            kind = vendor if alias == "default" else "sqlite"
            created[alias] = databases.create(kind, folder)
            stack.callback(created[alias].drop)
        project = Project(folder / "project", created, story.options)
        project.write("market/wsgi.py", _WSGI)
        project.manage("migrate", "--verbosity", "0")
        project.python(MAKE_PEOPLE)
        project.add_migrations(story.migrations)
        server = WebServer(project, ServerKind.THREADS)
        server.start()
        stack.callback(server.stop)
        yield project, server.url


main()
