"""A second host in a test: the same project in another folder, under another host name,
whose way to the database the test can interrupt and whose run it can freeze.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness import processes
from tests.harness.deadlines import until
from tests.harness.project import Project
from tests.harness.vendors import MariadbDatabase, PostgresDatabase
from tests.harness.wire_cutter import DatabaseLink

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.harness.client import Client
    from tests.harness.database import Database
    from tests.harness.servers import WebServer
    from tests.harness.site import Site

INTERRUPTIONS = ("partitioned", "frozen", "reset")
"""How a host is taken away from its run: packets vanish, so that both ends believe for a
while that they are connected; its processes stop, and its network with them; or every
connection is reset, and so are new ones."""

KEEPALIVE = 3
"""Seconds after which a client on such a host asks whether a silent server is there: less
than the 30 s of the product, so that a test is over sooner."""

_SITE = Path(__file__).parent / "host"


def record_of(database: Database, run: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read what the ledger's tables hold of a run: its row, its events, its entries."""
    return {
        "row": database.rows(
            "SELECT state, outcome, steps, error, last_event, finished_at"
            f" FROM migration_route_run WHERE id = '{run}'"
        ),
        "events": database.rows(
            "SELECT number, kind, text, digest FROM migration_route_event"
            f" WHERE run = '{run}' ORDER BY number"
        ),
        "entries": database.rows(
            "SELECT sequence, action, digest FROM migration_route_entry"
            f" WHERE run = '{run}' ORDER BY sequence"
        ),
    }


class Host:
    """A host with the project on it, a link to the database, and a web server."""

    def __init__(self, site: Site, name: str, *, clock: float = 0) -> None:
        """Put the site's project on a host of this name, whose clock is so many seconds
        ahead."""
        self.site = site
        self.link, database = link_to(site.database)
        folder = site.project.folder.parent / name
        options = site.project.options
        if site.pair.vendor == "postgres":
            waits = {"OPTIONS": {"keepalives_idle": KEEPALIVE}, **options.connection}
            options = replace(options, connection=waits)
        self.project = Project(folder, {"default": database}, options)
        self._deploy()
        name_host(self.project, name, clock=clock)
        self.server: WebServer | None = None

    def _deploy(self) -> None:
        """Put the migrations of the site's project on this host as well."""
        for path in self.site.project.folder.glob("*/migrations/*.py"):
            self.project.write(
                str(path.relative_to(self.site.project.folder)), path.read_text()
            )

    def serve(self) -> WebServer:
        """Start its web server."""
        self.server = self.site.serve(self.project)
        return self.server

    def client(self, who: str = "operator") -> Client:
        """Give a caller of this host's server."""
        return self.site.client(who, server=self.server)

    # --- the processes of a run -------------------------------------------------------

    def run_pids(self, run: str) -> frozenset[int]:
        """Give the pids of a run's supervisor and worker on this host."""
        return run_processes(self.project.folder, run)

    def await_end_of(self, run: str, *, seconds: float) -> None:
        """Wait until neither a supervisor nor a worker of the run is left here."""
        until(
            lambda: not self.run_pids(run),
            seconds=seconds,
            what=f"the processes of the run on {self.project.folder.name} end",
        )

    def interrupt(self, how: str, run: str) -> None:
        """Take the host away from the run that it carries out, in one of the ways of
        `INTERRUPTIONS`; the database has given up the host's sessions afterwards."""
        match how:
            case "partitioned":
                self.link.cut()
                self.link.expire()
            case "reset":
                self.link.reset()
            case "frozen":
                stop_processes(self.run_pids(run))
                self.link.cut()
                self.link.expire()
            case _:
                raise ValueError(how)

    def recover(self, run: str) -> None:
        """Bring the host back: its network first, then its processes."""
        self.link.restore()
        continue_processes(self.run_pids(run))

    def close(self) -> None:
        """Let whatever still waits for the database fail."""
        self.link.close()


def link_to(database: Database) -> tuple[DatabaseLink, Database]:
    """Give a link to the database's server, and the database as it is seen through it."""
    assert isinstance(database, PostgresDatabase | MariadbDatabase), database
    link = DatabaseLink(database.address.host, database.address.port)
    address = replace(database.address, host="127.0.0.1", port=link.port)
    return link, replace(database, address=address)


def name_host(project: Project, name: str, *, clock: float = 0) -> None:
    """Let the processes of a project run on a host of this name, which has a folder of
    temporary files of its own."""
    temporary = project.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    project.environment |= {
        "PYTHONPATH": str(_SITE),
        "TEST_HOST_NAME": name,
        "TEST_HOST_CLOCK": f"{clock:g}",
        "TMPDIR": str(temporary),
    }


def run_processes(folder: Path, run: str) -> frozenset[int]:
    """Give the pids of a run's supervisor and worker that work in this folder."""
    return frozenset(
        pid
        for pid in processes.living_in(folder)
        if f" run {run}" in processes.command_line(pid)
    )


def stop_processes(pids: Collection[int]) -> None:
    """Stop these processes where they are, and see that each of them has stopped."""
    assert pids, "there is no process to stop"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(
        lambda: all(processes.state_of(pid) in {"T", ""} for pid in pids),
        seconds=10,
        what=f"{sorted(pids)} have stopped",
        every=0.01,
    )


def continue_processes(pids: Collection[int]) -> None:
    """Let stopped processes go on."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def second_host(site: Site, name: str = "host-a", *, clock: float = 0) -> Iterator[Host]:
    """Give a second host beside the site's own, with its web server."""
    host = Host(site, name, clock=clock)
    try:
        host.serve()
        yield host
    finally:
        host.close()
