"""Finds the databases on this machine, and creates one for a test."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import psycopg
import pymysql

from tests.harness import embedded_postgres
from tests.harness.database import Address, Database, random_name
from tests.harness.vendors import MariadbDatabase, PostgresDatabase, SqliteDatabase

if TYPE_CHECKING:
    from pathlib import Path

VENDORS = ("sqlite", "postgres", "mariadb")
POSTGRES = "MIGRATION_ROUTE_TEST_POSTGRES"
MARIADB = "MIGRATION_ROUTE_TEST_MARIADB"
REQUIRED = "REQUIRE_DATABASES"


class NotHere(Exception):
    """This database is not on this machine."""


def create(vendor: str, folder: Path) -> Database:
    """Create a new, empty database; raises `NotHere` when there is no such server."""
    database: Database
    match vendor:
        case "sqlite":
            database = SqliteDatabase(path=folder / f"{random_name()}.sqlite3")
        case "postgres":
            database = PostgresDatabase(address=postgres(), name=random_name())
        case "mariadb":
            database = MariadbDatabase(address=mariadb(), name=random_name())
        case _:
            raise ValueError(vendor)
    database.create()
    return database


def missing() -> dict[str, str]:
    """Return the databases that are not on this machine, each with the reason."""
    reasons = {}
    for vendor, find in (("postgres", postgres), ("mariadb", mariadb)):
        try:
            find()
        except NotHere as reason:
            reasons[vendor] = str(reason)
    return reasons


def required() -> frozenset[str]:
    """Return the databases that `REQUIRE_DATABASES` names: without them the tests fail."""
    other_names = {"postgresql": "postgres", "mysql": "mariadb"}
    words = os.environ.get(REQUIRED, "").replace(",", " ").split()
    return frozenset(other_names.get(word, word) for word in words)


@functools.cache
def postgres() -> Address:
    """Find PostgreSQL: the configured one, the machine's own, or an embedded one."""
    chosen = os.environ.get(POSTGRES)
    address = Address.parse(chosen or "postgres://postgres@127.0.0.1", port=5432)
    try:
        with PostgresDatabase(address=address).connect():
            return address
    except psycopg.OperationalError as error:
        if chosen:
            raise NotHere(f"{POSTGRES}: {error}") from error
    try:
        port = embedded_postgres.start()
    except embedded_postgres.NoPostgres as error:
        raise NotHere(str(error)) from error
    return Address(host="127.0.0.1", port=port, user="postgres", password="")


@functools.cache
def mariadb() -> Address:
    """Find MariaDB: the configured one, or the machine's own."""
    chosen = os.environ.get(MARIADB)
    address = Address.parse(chosen or "mysql://root@127.0.0.1", port=3306)
    try:
        with MariadbDatabase(address=address).connect():
            return address
    except pymysql.err.MySQLError as error:
        raise NotHere(f"{MARIADB}: {error}") from error
