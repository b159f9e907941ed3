"""Starts a PostgreSQL server for one test, which may reconfigure or stop it.

It listens on the loopback interface only, keeps its files in a temporary folder, and ends
with the block, by its own process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.harness import embedded_postgres as embedded
from tests.harness import processes
from tests.harness.database import Address
from tests.harness.databases import NotHere
from tests.harness.deadlines import until
from tests.harness.vendors import PostgresDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMON = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "autovacuum_naptime": "1s",
    "shared_buffers": "16MB",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running server."""

    root: Path
    binaries: Path
    account: dict[str, Any]
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> Address:
        """The address that it listens on."""
        return Address(host="127.0.0.1", port=self.port, user="postgres", password="")

    def database(self, name: str = "postgres") -> PostgresDatabase:
        """Return one of its databases."""
        return PostgresDatabase(address=self.address, name=name)

    def set(self, name: str, value: str) -> None:
        """Change a setting that takes effect on reload."""
        self.database().execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.database().execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def cluster(settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Create and start a server. Raises `NotHere` where there is no `initdb`."""
    with _folder() as (root, binaries, account):
        embedded._initialise(binaries, root, account)
        with (root / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host replication all 127.0.0.1/32 trust\n")
        with _running(root, binaries, account, {**COMMON, **(settings or {})}) as found:
            yield found


@contextlib.contextmanager
def standby_of(
    primary: Cluster, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Create a standby of another server."""
    with _folder() as (root, binaries, account):
        command = [str(binaries / "pg_basebackup"), "-D", str(root / "data")]
        command += ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres"]
        command += ["--checkpoint=fast", "--no-sync"]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            cwd="/",
            env=embedded.ENVIRONMENT,
            timeout=60,
            **account,
        )
        (root / "data" / "standby.signal").touch()
        more = {
            **COMMON,
            "archive_mode": "off",
            "primary_conninfo": f"host=127.0.0.1 port={primary.port} user=postgres",
            **(settings or {}),
        }
        with _running(root, binaries, account, more) as found:
            yield found


@contextlib.contextmanager
def _folder() -> Iterator[tuple[Path, Path, dict[str, Any]]]:
    account = embedded._unprivileged_account()
    root = Path(tempfile.mkdtemp(prefix="walk-cluster-"))
    try:
        if account:
            os.chown(root, account["user"], account["group"])
        try:
            binaries = embedded._working_binaries(root, account)
        except embedded.NoPostgres as reason:
            raise NotHere(str(reason)) from reason
        if not (binaries / "initdb").exists():
            raise NotHere(f"there is no initdb in {binaries}")
        yield root, binaries, account
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _running(
    root: Path, binaries: Path, account: dict[str, Any], settings: Mapping[str, str]
) -> Iterator[Cluster]:
    port = embedded._free_port()
    # In postgresql.conf, so that a later ALTER SYSTEM takes precedence.
    with (root / "data" / "postgresql.conf").open("a") as file:
        for name, value in settings.items():
            file.write(f"{name} = '{value}'\n")
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", root / "data", "-k", root, "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=embedded.ENVIRONMENT,
            start_new_session=True,
            preexec_fn=processes.ends_with_its_parent,
            **account,
        )
    found = Cluster(
        root=root, binaries=binaries, account=account, port=port, process=process
    )
    try:
        until(
            lambda: process.poll() is not None or _answers(found),
            seconds=30,
            what="the server answers",
            every=0.05,
        )
        assert process.poll() is None, (root / "log").read_text()
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(15)


def _answers(found: Cluster) -> bool:
    try:
        return found.database().rows("SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False
