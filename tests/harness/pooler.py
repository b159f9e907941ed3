"""Starts a transaction pooler for one test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg

from tests.harness import processes
from tests.harness.databases import NotHere
from tests.harness.deadlines import until
from tests.harness.vendors import PostgresDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INI = """\
[databases]
* = host={host} port={server_port} user={user}{password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = {size}
server_round_robin = {turns}
ignore_startup_parameters = extra_float_digits
{nobody}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledDatabase(PostgresDatabase):
    """A database as the project reaches it through a pooler; the harness bypasses the
    pooler."""

    port: int

    def settings(self) -> dict[str, Any]:
        return replace(self.address, port=self.port).settings("postgresql", self.name)


@contextlib.contextmanager
def pooler(
    database: PostgresDatabase, folder: Path, *, size: int = 10, turns: bool = False
) -> Iterator[PooledDatabase]:
    """Start PgBouncer, in its mode `transaction`, in front of the server of a database.

    `size` is the number of server sessions, `turns` whether it uses them round-robin.
    Raises `NotHere`.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise NotHere("there is no pgbouncer on this machine")
    port = _free_port()
    address = database.address
    file = folder / f"pgbouncer-{port}.ini"
    file.write_text(
        _INI.format(
            host=address.host,
            server_port=address.port,
            user=address.user,
            password=f" password={address.password}" if address.password else "",
            port=port,
            size=size,
            turns=int(turns),
            nobody="user = nobody" if os.getuid() == 0 else "",  # it refuses to run as root
        )
    )
    log = folder / f"pgbouncer-{port}.log"
    with log.open("wb") as words:
        process = subprocess.Popen(
            [program, str(file)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            preexec_fn=processes.ends_with_its_parent,
        )
    pooled = PooledDatabase(address=address, name=database.name, port=port)
    try:
        until(
            lambda: process.poll() is not None or _answers(pooled),
            seconds=20,
            what="PgBouncer answers",
            every=0.05,
        )
        assert process.poll() is None, log.read_text()
        yield pooled
    finally:
        process.terminate()
        process.wait(10)


def _answers(pooled: PooledDatabase) -> bool:
    try:
        with psycopg.connect(
            host="127.0.0.1",
            port=pooled.port,
            user=pooled.address.user,
            dbname=pooled.name,
            autocommit=True,
        ) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
