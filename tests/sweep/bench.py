"""The test bench of the sweep: a project with a server, whose database is restored for each
point."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from tests.harness.client import expect
from tests.harness.hosts import Host
from tests.harness.pairs import Pair
from tests.harness.project import Options, Project
from tests.harness.servers import ServerKind
from tests.harness.site import Site
from tests.outcome.outcome import OWN_APP, read_outcome
from tests.sweep.steps import ROWS, steps
from tests.sweep.truth import Reference, Seen, look

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.prepared import Prepared

HEARTBEAT_TIMEOUT = 2.0
APPS = [
    "shop",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    OWN_APP,
    "saboteur",
]
# A sweep takes longer than a login stays fresh.
OPTIONS = Options(
    settings={"INSTALLED_APPS": APPS},
    migration_route={
        "HEARTBEAT_TIMEOUT": f"{HEARTBEAT_TIMEOUT:g}s",
        "REAUTHENTICATION": None,
    },
)


class Bench:
    """A project, its server, and a copy of its database to restore from."""

    def __init__(self, vendor: str, folder: Path, prepared: Prepared) -> None:
        folder.mkdir()
        self.folder = folder
        self.steps = steps(vendor)
        self.image = prepared.copy(vendor, folder)
        self.database = self.image.copy(folder)
        self.project = Project(folder / "project", {"default": self.database}, OPTIONS)
        self.project.add_migrations({step.name: step.source for step in self.steps})
        self.site = Site(Pair(vendor, ServerKind.THREADS), self.project)
        self.host: Host | None = None
        self.stage = self.project  # the project whose processes are struck

    def open(self, *, hosts: bool = False) -> None:
        """Prepare the initial database: in use, with the ledger installed and a user signed
        in, and nothing of the plan applied.

        With `hosts`, a run can also be started from a second host.
        """
        self.project.manage("migrate", OWN_APP, "--verbosity", "0")
        self.database.execute(*ROWS)
        self.site.serve()
        self.machine = self.site.client("operator")
        self.person = self.site.person("boss")
        self.image.become(self.database)
        words = expect(self.machine.call("GET", "openapi.json"), 200)
        self.offers_how = '"how"' in json.dumps(words["components"])
        if hosts:
            self.host = Host(self.site, "host-a")
            usual = self.project.folder / "options.json"
            self.host.project.environment["SABOTAGE_OPTIONS"] = str(usual)
            self.host.serve()
            self.remote = self.host.client()

    def close(self) -> None:
        if self.host is not None:
            self.host.close()
        with contextlib.redirect_stdout(sys.stderr):  # output of the server
            self.site.stop()
        self.database.drop()
        self.image.drop()

    def restore(self, *, on_host: bool = False) -> None:
        """Restore the database to its state before the run, which will start on the second
        host or on this one."""
        self.database.become(self.image)
        assert self.host is not None or not on_host
        self.stage = self.host.project if self.host and on_host else self.project
        for name in ("sabotage.json", "struck.json", "instants.jsonl", "interrupted"):
            (self.stage.folder / name).unlink(missing_ok=True)

    def sabotage(self, **order: Any) -> None:
        """Set the target and instant of the next run's strike."""
        self.stage.write("sabotage.json", json.dumps(order))

    def struck(self) -> dict[str, Any] | None:
        """Return when and where the run was struck; None before that."""
        with contextlib.suppress(FileNotFoundError):
            words: dict[str, Any] = json.loads(
                (self.stage.folder / "struck.json").read_text()
            )
            return words
        return None

    def disarm(self) -> None:
        """Disable strikes for all later processes."""
        (self.stage.folder / "sabotage.json").unlink(missing_ok=True)

    def instants(self) -> list[dict[str, Any]]:
        """Read the instants of the last run that was only observed."""
        text = (self.stage.folder / "instants.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def start(self) -> Any:
        """Request a run of everything and return it as accepted."""
        client = self.machine if self.stage is self.project else self.remote
        return client.run(client.plan())

    def interrupt(self, how: str, run: str) -> None:
        """Interrupt the second host, whose run waits for that."""
        assert self.host is not None
        self.host.interrupt(how, run)
        self.stage.write("interrupted", "")

    @property
    def pids(self) -> frozenset[int]:
        """The processes of the servers."""
        return frozenset(
            server.process.pid for server in self.site.servers if server.process
        )


@contextlib.contextmanager
def opened(
    vendor: str, folder: Path, prepared: Prepared, *, hosts: bool = False
) -> Iterator[Bench]:
    """Yield a bench; close it afterwards."""
    bench = Bench(vendor, folder, prepared)
    try:
        bench.open(hosts=hosts)
        yield bench
    finally:
        bench.close()


def reference(bench: Bench) -> Reference:
    """Migrate undisturbed: with Django step by step, then with this package at once.

    The instants of that run can be read afterwards.
    """
    bench.restore()
    after: list[Seen] = [look(bench.database)]
    for step in bench.steps:
        bench.project.manage("migrate", "shop", step.name, "--verbosity", "0")
        after.append(look(bench.database))
    bench.restore()
    bench.sabotage(target="nothing")
    run = bench.machine.wait_for_end(bench.start()["id"])
    bench.disarm()
    assert run["state"] == "succeeded", run
    differs = look(bench.database).differs_from(after[-1])
    assert not differs, differs
    return Reference(after=after, end=read_outcome(bench.database))
