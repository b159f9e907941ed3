"""What the pictures show: a project for each story, and the way to each state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.migrations import RUN, chain_of_tables, migration, running
from tests.harness.project import Options, Project

if TYPE_CHECKING:
    from playwright.sync_api import Page

_VIEWS = (("light-1280", 1280, "light"), ("dark-1280", 1280, "dark"))
_NARROW = (("light-390", 390, "light"), ("dark-390", 390, "dark"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A browser that is signed in, at one project."""

    page: Page
    project: Project
    url: str
    folder: Path

    def take(self, name: str) -> None:
        """Take the page as it is, in light and dark mode, wide and narrow."""
        for view, width, scheme in (*_VIEWS, *_NARROW):
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            self.page.wait_for_timeout(250)  # the admin's links change their color slowly
            path = self.folder / f"{name}-{view}.png"
            self.page.screenshot(path=path, full_page=True)

    def go(self, path: str = "") -> None:
        self.page.goto(self.url + path)

    def press(self, label: str) -> None:
        self.page.get_by_role("button", name=label).first.click()

    def apply(self, reason: str = "Release 42", *, button: str = "Apply") -> None:
        """Apply everything that is pending, and stay on the page of the run."""
        self.go("plan/?database=default")
        self.page.fill("#reason", reason)
        if self.page.locator("#confirm").count():
            self.page.fill("#confirm", "default")
        self.page.get_by_role("button", name=button).last.click()
        self.page.wait_for_url("**/runs/*/")

    def await_end(self) -> None:
        self.page.wait_for_selector("[data-run]:not([data-active])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    tell: Callable[[Camera], None]
    migrations: Mapping[str, str] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    aliases: tuple[str, ...] = ("default",)


_SKU = 'migrations.AddField("item", "sku", models.CharField(max_length=20, default=""))'
_INDEX = (
    'migrations.AddIndex("item", models.Index(fields=["sku", "name"], name="item_sku"))'
)
_UNIQUE = (
    'migrations.AlterField("item", "sku", models.CharField(max_length=20, unique=True))'
)
_PRICE = """migrations.CreateModel("Price", [
            ("id", models.BigAutoField(primary_key=True)),
            ("item", models.ForeignKey("shop.Item", models.CASCADE)),
            ("amount", models.DecimalField(max_digits=10, decimal_places=2)),
        ])"""
_DROP = 'migrations.RemoveField("item", "name")'
_FILL = """\
print("0 of 3 items have a sku", flush=True)
for number in range(1, 4):
    Item.objects.using(alias).create(name=f"item {number}", sku=f"S{number}")
    print(f"{number} of 3 items have a sku", flush=True)
"""
_WAIT = _FILL + 'pass_gate("fill")\n'
_FAIL = _FILL + 'raise ValueError("2 items have no price: 17, 23")\n'


def _files(body: str = _FILL, *, atomic: bool = True) -> dict[str, str]:
    return {
        "0002_price": migration(_PRICE),
        "0003_sku": migration(_SKU, _INDEX, after="0002_price"),
        "0004_fill_sku": migration(RUN, after="0003_sku", body=body, atomic=atomic),
        "0005_unique_sku": migration(_UNIQUE, after="0004_fill_sku"),
        "0006_drop_name": migration(_DROP, after="0005_unique_sku"),
    }


def _pending(camera: Camera) -> None:
    camera.go()
    camera.page.wait_for_selector(".mr-summary")
    camera.take("home-pending")
    camera.go("plan/?database=default")
    camera.take("plan")
    camera.press("Rehearse on a copy")
    camera.page.wait_for_selector(".mr-headline:has-text('The plan succeeded')")
    camera.take("rehearsal")
    camera.go("plan/?database=default")
    camera.take("plan-rehearsed")


def _running(camera: Camera) -> None:
    camera.apply()
    camera.project.await_gate("fill")
    camera.page.wait_for_selector(".mr-line--output", state="attached")
    camera.take("run-running")
    run = camera.page.url
    camera.go()
    camera.take("home-running")
    camera.go("plan/?database=default")
    camera.take("plan-during-run")
    camera.page.goto(run)
    camera.page.fill("#pause-reason", "Waiting for the database team")
    camera.press("Pause")
    camera.project.open_gate("fill")
    camera.page.wait_for_selector("text=Paused before its next step")
    camera.take("run-paused")
    camera.go()
    camera.take("home-paused")
    camera.page.goto(run)
    camera.press("Resume")
    camera.page.wait_for_selector("text=verified")
    camera.take("run-succeeded")
    camera.go()
    camera.take("home-up-to-date")
    camera.go("runs/")
    camera.take("history")
    camera.go("ledger/?verify=1")
    camera.take("ledger")


def _failed(camera: Camera) -> None:
    camera.apply()
    camera.page.wait_for_selector("text=Failed:")
    camera.await_end()
    camera.take("run-failed")
    camera.page.reload()
    camera.take("run-failed-reloaded")
    camera.go()
    camera.take("home-failed")
    camera.go("plan/?database=default")
    camera.take("plan-after-failure")


def _partial(camera: Camera) -> None:
    camera.apply()
    camera.page.wait_for_selector("text=Stopped partway")
    camera.await_end()
    camera.take("run-partial")
    camera.go()
    camera.take("home-partial")
    camera.go("plan/?database=default")
    camera.take("plan-partial")


def _closed(camera: Camera) -> None:
    camera.go()
    camera.take("home-window-closed")
    camera.go("plan/?database=default")
    camera.take("plan-window-closed")


def _approval(camera: Camera) -> None:
    camera.go("plan/?database=default")
    camera.take("plan-needs-approval")
    camera.apply(button="Request approval")
    camera.take("run-awaiting-approval")
    camera.go()
    camera.take("home-awaiting-approval")


def _long(camera: Camera) -> None:
    camera.go()
    camera.take("home-300")
    camera.go("plan/?database=default")
    camera.page.wait_for_selector("[data-further]", state="detached")
    camera.page.wait_for_selector("[data-risk]:not(:has-text('at least'))")
    camera.take("plan-300")


def _many(camera: Camera) -> None:
    camera.go()
    camera.take("home-50-databases")


STORIES = {
    "pending": Story(tell=_pending, migrations=_files()),
    "running": Story(
        tell=_running,
        migrations=_files(_WAIT),
        options=Options(migration_route={"ENVIRONMENT": "production"}),
    ),
    "failed": Story(tell=_failed, migrations=_files(_FAIL)),
    "partial": Story(tell=_partial, migrations=_files(_FAIL, atomic=False)),
    "closed": Story(
        tell=_closed,
        migrations=_files(),
        options=Options(
            migration_route={
                "WINDOWS": [{"start": "03:00", "end": "03:01", "timezone": "UTC"}],
            }
        ),
    ),
    "approval": Story(
        tell=_approval,
        migrations=_files(),
        options=Options(migration_route={"APPROVALS": {"when": "always"}}),
    ),
    "long": Story(tell=_long, migrations=chain_of_tables(300)),
    "many": Story(
        tell=_many,
        migrations={"0002_more": running("pass")},
        aliases=("default", *(f"shard{number:02}" for number in range(1, 50))),
    ),
}
