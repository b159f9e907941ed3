"""Simulates a second host: the same project in another folder, under another host name. A
test can interrupt its connection to the database and freeze its runs."""

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
"""How a host is separated from its run: packets are dropped, so that both ends consider
themselves connected for a while; its processes stop together with its network; or every
connection is reset, and so are new ones."""

KEEPALIVE = 3
"""Seconds after which a client on such a host probes a silent server: less than the
product's 30 s, which shortens the tests."""

_SITE = Path(__file__).parent / "host"


def record_of(database: Database, run: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read what the ledger's tables contain of a run: its row, its events, its entries."""
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
    """A host with the project, a link to the database, and a web server."""

    def __init__(self, site: Site, name: str, *, clock: float = 0) -> None:
        """Put the site's project on a host of this name, whose clock is that many seconds
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
        """Copy the migrations of the site's project to this host."""
        for path in self.site.project.folder.glob("*/migrations/*.py"):
            self.project.write(
                str(path.relative_to(self.site.project.folder)), path.read_text()
            )

    def serve(self) -> WebServer:
        """Start its web server."""
        self.server = self.site.serve(self.project)
        return self.server

    def client(self, who: str = "operator") -> Client:
        """Return a client of this host's server."""
        return self.site.client(who, server=self.server)

    # --- the processes of a run -------------------------------------------------------

    def run_pids(self, run: str) -> frozenset[int]:
        """Return the pids of a run's supervisor and worker on this host."""
        return run_processes(self.project.folder, run)

    def await_end_of(self, run: str, *, seconds: float) -> None:
        """Wait until neither a supervisor nor a worker of the run is left on this host."""
        until(
            lambda: not self.run_pids(run),
            seconds=seconds,
            what=f"the processes of the run on {self.project.folder.name} end",
        )

    def interrupt(self, how: str, run: str) -> None:
        """Separate the host from the run that it executes, in one of the ways of
        `INTERRUPTIONS`; afterwards the database has ended the host's sessions."""
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
        """Restore the host: first its network, then its processes."""
        self.link.restore()
        continue_processes(self.run_pids(run))

    def close(self) -> None:
        """Make every pending wait for the database fail."""
        self.link.close()


def link_to(database: Database) -> tuple[DatabaseLink, Database]:
    """Return a link to the database's server, and the database as reached over the link."""
    assert isinstance(database, PostgresDatabase | MariadbDatabase), database
    link = DatabaseLink(database.address.host, database.address.port)
    address = replace(database.address, host="127.0.0.1", port=link.port)
    return link, replace(database, address=address)


def name_host(project: Project, name: str, *, clock: float = 0) -> None:
    """Make the processes of a project run on a host of this name, with a folder of
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
    """Return the pids of a run's supervisor and worker that work in this folder."""
    return frozenset(
        pid
        for pid in processes.living_in(folder)
        if f" run {run}" in processes.command_line(pid)
    )


def stop_processes(pids: Collection[int]) -> None:
    """Stop these processes, and wait until each of them has stopped."""
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
    """Resume stopped processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def second_host(site: Site, name: str = "host-a", *, clock: float = 0) -> Iterator[Host]:
    """Yield a second host beside the site's own, with its web server."""
    host = Host(site, name, clock=clock)
    try:
        host.serve()
        yield host
    finally:
        host.close()
