"""The databases of each vendor: connecting, copying and dropping."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import pymysql

from tests.harness.database import Address, Database, random_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 5  # seconds that connecting may take


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDatabase(Database):
    vendor: ClassVar[str] = "sqlite"
    transactional_ddl: ClassVar[bool] = True

    path: Path

    def settings(self) -> dict[str, Any]:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.path)}

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        with contextlib.closing(connection):
            yield connection

    def columns(self, table: str) -> set[str]:
        return {row[1] for row in self.rows(f"PRAGMA table_info({table})")}

    def tables(self) -> set[str]:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return {name for (name,) in self.rows(query)}

    def create(self) -> None:
        """Create the file by a first connection."""

    def copy(self, folder: Path) -> SqliteDatabase:
        copy = SqliteDatabase(path=folder / f"{random_name()}.sqlite3")
        copy.become(self)
        return copy

    def become(self, original: SqliteDatabase) -> None:
        self.drop()
        shutil.copyfile(original.path, self.path)

    def drop(self) -> None:
        for path in self.path.parent.glob(f"{self.path.name}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def beside(self) -> set[str]:
        found = self.path.parent.rglob("*")
        start = self.path.name
        return {
            str(path.relative_to(self.path.parent))
            for path in found
            if path != self.path
            and str(path.relative_to(self.path.parent)).startswith(start)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase(Database):
    """A database on a PostgreSQL server."""

    vendor: ClassVar[str] = "postgres"
    transactional_ddl: ClassVar[bool] = True

    address: Address
    name: str = "postgres"

    def settings(self) -> dict[str, Any]:
        return self.address.settings("postgresql", self.name)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        connection = psycopg.connect(
            host=self.address.host,
            port=self.address.port,
            user=self.address.user,
            password=self.address.password,
            dbname=self.name,
            autocommit=True,
            connect_timeout=PATIENCE,
        )
        with contextlib.closing(connection):
            yield connection

    def columns(self, table: str) -> set[str]:
        query = "SELECT column_name FROM information_schema.columns"
        where = f"WHERE table_schema = 'public' AND table_name = '{table}'"
        return {name for (name,) in self.rows(f"{query} {where}")}

    def tables(self) -> set[str]:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return {name for (name,) in self.rows(query)}

    def create(self) -> None:
        self._server().execute(f"CREATE DATABASE {self.name}")

    def copy(self, folder: Path) -> PostgresDatabase:
        copy = PostgresDatabase(address=self.address, name=random_name())
        copy.become(self)
        return copy

    def become(self, original: PostgresDatabase) -> None:
        self.drop()
        self._server().execute(f"CREATE DATABASE {self.name} TEMPLATE {original.name}")

    def drop(self) -> None:
        self._server().execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def sessions(self) -> set[str]:
        query = "SELECT pid, application_name, state, query FROM pg_stat_activity"
        where = f"WHERE datname = '{self.name}' AND backend_type = 'client backend'"
        return {" ".join(map(str, row)) for row in self._server().rows(f"{query} {where}")}

    def locks(self) -> set[str]:
        query = "SELECT pid, classid, objid FROM pg_locks JOIN pg_database ON"
        query += " pg_database.oid = database WHERE locktype = 'advisory'"
        rows = self._server().rows(f"{query} AND datname = '{self.name}'")
        return {" ".join(map(str, row)) for row in rows}

    def _server(self) -> PostgresDatabase:
        return PostgresDatabase(address=self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class MariadbDatabase(Database):
    """A database on a MariaDB server."""

    vendor: ClassVar[str] = "mariadb"
    transactional_ddl: ClassVar[bool] = False

    address: Address
    name: str = "information_schema"

    def settings(self) -> dict[str, Any]:
        return self.address.settings("mysql", self.name)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        connection = pymysql.connect(
            host=self.address.host,
            port=self.address.port,
            user=self.address.user,
            password=self.address.password,
            database=self.name,
            autocommit=True,
            connect_timeout=PATIENCE,
        )
        with contextlib.closing(connection):
            yield connection

    def columns(self, table: str) -> set[str]:
        query = "SELECT column_name FROM information_schema.columns"
        where = f"WHERE table_schema = '{self.name}' AND table_name = '{table}'"
        return {name for (name,) in self.rows(f"{query} {where}")}

    def tables(self) -> set[str]:
        return {name for (name,) in self.rows("SHOW TABLES")}

    def create(self) -> None:
        self._server().execute(f"CREATE DATABASE {self.name} CHARACTER SET utf8mb4")

    def copy(self, folder: Path) -> MariadbDatabase:
        copy = MariadbDatabase(address=self.address, name=random_name())
        copy.become(self)
        return copy

    def become(self, original: MariadbDatabase) -> None:
        """Recreate every table, then copy the rows: MariaDB has no template databases."""
        self.drop()
        self.create()
        tables = sorted(original.tables())
        made = [original.rows(f"SHOW CREATE TABLE `{table}`")[0][1] for table in tables]
        filled = [
            f"INSERT INTO `{table}` SELECT * FROM `{original.name}`.`{table}`"
            for table in tables
        ]
        self.execute("SET foreign_key_checks = 0", *made, *filled)

    def drop(self) -> None:
        """End its sessions first: their locks would block the drop."""
        query = "SELECT id FROM information_schema.processlist"
        for (session,) in self._server().rows(f"{query} WHERE db = '{self.name}'"):
            with contextlib.suppress(pymysql.err.MySQLError):
                self._server().execute(f"KILL {session}")
        self._server().execute(f"DROP DATABASE IF EXISTS {self.name}")

    def sessions(self) -> set[str]:
        """Include the session of each holder of a named lock: the lock ends with its
        session."""
        query = "SELECT id, command, info FROM information_schema.processlist"
        rows = self._server().rows(f"{query} WHERE db = '{self.name}'")
        return {" ".join(map(str, row)) for row in rows}

    def _server(self) -> MariadbDatabase:
        return MariadbDatabase(address=self.address)
