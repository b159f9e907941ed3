"""Tests that missing disk space pauses a run, and nothing else about the disk does."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_gentleness import a_transaction
from tests.e2e.test_health import await_stop, held, watchful
from tests.harness import databases
from tests.harness.client import expect
from tests.harness.clusters import Cluster, cluster
from tests.harness.deadlines import until
from tests.harness.migrations import RUN, column, migration
from tests.harness.pairs import Pair
from tests.harness.prepared import MAKE_PEOPLE
from tests.harness.project import Project
from tests.harness.servers import ServerKind
from tests.harness.site import Site
from tests.harness.vendors import SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.database import Database
    from tests.harness.vendors import PostgresDatabase

MB = 1024 * 1024
# The text column becomes shorter: PostgreSQL and SQLite rewrite the table.
SHORTER = 'migrations.AlterField("item", "name", models.CharField(max_length=95))'
ROWS = (
    "INSERT INTO shop_item (name) SELECT {text} FROM "
    "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
    "SELECT i FROM n) AS rows"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A PostgreSQL server on this host, under this account."""
    try:
        with cluster() as found:
            yield found
    except databases.NotHere as reason:
        pytest.skip(str(reason))


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return the builder of sites on a database with a hundred thousand items."""
    with contextlib.ExitStack() as leftovers:

        def build(database: Database, migrations: dict[str, str], **health: Any) -> Site:
            project = Project(
                tmp_path / "project", {"default": database}, watchful(**health)
            )
            project.manage("migrate", "--verbosity", "0")
            project.python(MAKE_PEOPLE)
            project.add_migrations(migrations)
            pair = Pair(database.vendor, ServerKind.SYNC)
            site = Site(pair, project)
            leftovers.callback(site.stop)
            site.serve()
            return site

        yield build


@pytest.fixture
def own_database(server: Cluster) -> Iterator[PostgresDatabase]:
    """A database on that server."""
    database = server.database("room")
    database.create()
    yield database
    database.drop()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 64 MB."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        folder.rmdir()
        pytest.skip(f"no small file system may be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path, *, leave: int) -> Path:
    """Leave that many bytes free; return the file that takes the rest."""
    filler = folder / "filler"
    size = shutil.disk_usage(folder).free - leave
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return filler


def told_of(ci: Any, run: str) -> Any:
    """Return the one signal that pauses a run."""
    signals = ci.get(f"runs/{run}")["waiting"]["signals"]
    [told] = [one for one in signals if one["state"] == "stop"]
    return told


def disk_of(answer: Any) -> Any:
    """Return the disk signal of a response."""
    [told] = [one for one in answer["signals"] if one["name"] == "disk"]
    return told


def in_table_space(
    own_database: PostgresDatabase, server: Cluster, small_disk: Path
) -> None:
    """Store the tables of this database on the small disk."""
    small_disk.chmod(0o700)
    if account := server.account:
        os.chown(small_disk, account["user"], account["group"])
    folder = small_disk / "tables"
    folder.mkdir(mode=0o700)
    if account := server.account:
        os.chown(folder, account["user"], account["group"])
    server.database().execute(
        f"CREATE TABLESPACE small LOCATION '{folder}'",
        f'ALTER DATABASE "{own_database.name}" SET default_tablespace = small',
    )


def test_a_disk_that_is_full_holds_the_step_that_would_write_a_table_anew(
    build, server, own_database, small_disk
):
    """A real disk: a run that overrides the signal runs out of space, and rolls back; when
    there is space, the run continues by itself. A step that rewrites nothing is not
    paused."""
    in_table_space(own_database, server, small_disk)
    try:
        files = {
            "0002_sku": column("sku"),
            "0003_shorter": migration(SHORTER, RUN, after="0002_sku"),
        }
        site = build(own_database, files)
        site.execute(ROWS.format(text="repeat('x', 90)"), "VACUUM ANALYZE shop_item")
        [(size,)] = site.rows("SELECT pg_total_relation_size('shop_item')")
        assert size > 10 * MB
        filler = fill(small_disk, leave=size // 2)
        ci, boss = site.client("ci"), site.person("boss")

        found = disk_of(await_stop(ci, "disk"))
        assert found["facts"]["needed"] == 2 * size
        assert found["facts"]["place"] == str(small_disk / "tables")
        page = boss.http.get("/_m/plan/").text
        assert "rewriting tables needs" in page

        run = ci.run(ci.plan())["id"]
        shown = held(ci, run, "disk")
        assert [step["state"] for step in shown["steps"]] == ["applied", "not_started"]
        told = told_of(ci, run)
        assert told["facts"]["free"] < told["facts"]["needed"]
        assert (
            "Operations without a forecast, such as Python, are not included."
            in told["reason"]
        )

        body = {"force": True, "reason": "let us see"}
        expect(boss.call("POST", f"runs/{run}/resume", json=body), 200)
        ended = ci.wait_for_end(run)
        assert ended["state"] == "failed", ended
        assert "No space left on device" in ended["error"]["message"]

        run = ci.run(ci.plan())["id"]
        held(ci, run, "disk")
        filler.unlink()
        ended = ci.wait_for_end(run)
        assert ended["state"] == "succeeded", ended
        assert disk_of(ci.get("health"))["state"] == "normal"
        assert ci.get("ledger/verify")["intact"]
    finally:
        own_database.drop()
        server.database().execute("DROP TABLESPACE small")


def test_room_that_goes_while_a_run_is_held_for_something_else_holds_it_on(
    build, own_database
):
    """Without a full disk: the required reserve is so large that the table soon exceeds it.
    The forecast is made when needed; when the table is emptied, the run continues."""
    site = build(own_database, {"0002_shorter": migration(SHORTER)})
    ci = site.client("ci")
    usual = disk_of(ci.get("health"))
    assert usual["state"] == "normal", usual
    factor = usual["facts"]["free"] / MB  # a table of a megabyte fits
    site.project.set_options(watchful(disk=factor))
    with a_transaction(site):
        await_stop(ci, "long_transaction")
        run = ci.run(ci.plan())["id"]
        held(ci, run, "long_transaction")
        site.execute(ROWS.format(text="repeat('x', 90)"))
    held(ci, run, "disk")
    assert told_of(ci, run)["facts"]["needed"] > usual["facts"]["free"]
    site.execute("TRUNCATE shop_item")
    assert ci.wait_for_end(run)["state"] == "succeeded"


def test_a_file_without_room_beside_it_holds_a_run(build, small_disk):
    """SQLite copies the table and journals what it replaces."""
    database = SqliteDatabase(path=small_disk / "db.sqlite3")
    site = build(database, {"0002_shorter": migration(SHORTER)})
    site.execute(ROWS.format(text=f"'{'x' * 90}'"))
    ci = site.client("ci")
    assert disk_of(ci.get("health"))["state"] == "normal"
    filler = fill(small_disk, leave=8 * MB)
    run = ci.run(ci.plan())["id"]
    held(ci, run, "disk")
    told = told_of(ci, run)
    assert told["facts"]["needed"] > told["facts"]["free"]
    filler.unlink()
    until(
        lambda: ci.get(f"runs/{run}")["ended"],
        seconds=30,
        what="there is room, and it goes on",
    )
    assert ci.get(f"runs/{run}")["state"] == "succeeded"
