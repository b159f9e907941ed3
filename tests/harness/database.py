"""What can a walk do with a database of its own?

The connections here are the harness's own: they prepare, and they verify what the route
says. Nothing in them goes through Django.
"""

from __future__ import annotations

import contextlib
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a database server listens, and as whom we come."""

    host: str
    port: int
    user: str
    password: str

    @classmethod
    def parse(cls, url: str, *, port: int) -> Address:
        """Read `scheme://user:password@host:port`."""
        parts = urlsplit(url)
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    def settings(self, engine: str, name: str) -> dict[str, Any]:
        """Give the entry of Django's DATABASES for a database of this server."""
        return {
            "ENGINE": f"django.db.backends.{engine}",
            "NAME": name,
            "USER": self.user,
            "PASSWORD": self.password,
            "HOST": self.host,
            "PORT": self.port,
        }


class Database(ABC):
    """One database that belongs to one test."""

    vendor: ClassVar[str]
    transactional_ddl: ClassVar[bool]

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Give the entry of Django's DATABASES."""

    @abstractmethod
    def connect(self) -> contextlib.AbstractContextManager[Any]:
        """Open a fresh connection in autocommit; it closes with the block."""

    @abstractmethod
    def columns(self, table: str) -> set[str]:
        """Name the columns of a table; nothing when there is no such table."""

    @abstractmethod
    def tables(self) -> set[str]:
        """Name all tables."""

    @abstractmethod
    def create(self) -> None:
        """Make it, empty."""

    @abstractmethod
    def copy(self, folder: Path) -> Database:
        """Make another database with the same content."""

    @abstractmethod
    def become(self, original: Any) -> None:
        """Take the content of another database of the same kind, and nothing else;
        whoever is still connected is cut off."""

    @abstractmethod
    def drop(self) -> None:
        """Remove it, whoever is still connected."""

    def sessions(self) -> set[str]:
        """Describe the sessions that are open to it, without the one that asks."""
        return set()

    def locks(self) -> set[str]:
        """Describe the locks of sessions that are held in it."""
        return set()

    def beside(self) -> set[str]:
        """Name the files that stand beside it and are not the database itself."""
        return set()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read rows over a connection that nobody else has used."""
        with (
            self.connect() as connection,
            contextlib.closing(connection.cursor()) as cursor,
        ):
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    def execute(self, *statements: str) -> None:
        """Write over a connection that nobody else has used."""
        with (
            self.connect() as connection,
            contextlib.closing(connection.cursor()) as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)

    def applied(self, app: str = "shop") -> list[str]:
        """Name an app's recorded migrations in the order of their recording."""
        if "django_migrations" not in self.tables():
            return []
        query = "SELECT app, name FROM django_migrations ORDER BY id"
        return [name for label, name in self.rows(query) if label == app]


def random_name() -> str:
    """Give a name that no other database has."""
    return f"walk_{secrets.token_hex(6)}"
