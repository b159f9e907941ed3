"""Interface of a database that belongs to one test.

The connections here are the harness's own: they prepare the database, and verify what this
package reports. They do not go through Django.
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
    """Address and credentials of a database server."""

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
        """Return the entry in Django's DATABASES for a database of this server."""
        return {
            "ENGINE": f"django.db.backends.{engine}",
            "NAME": name,
            "USER": self.user,
            "PASSWORD": self.password,
            "HOST": self.host,
            "PORT": self.port,
        }


class Database(ABC):
    """A database that belongs to one test."""

    vendor: ClassVar[str]
    transactional_ddl: ClassVar[bool]

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the entry in Django's DATABASES."""

    @abstractmethod
    def connect(self) -> contextlib.AbstractContextManager[Any]:
        """Open a fresh connection in autocommit; it closes with the block."""

    @abstractmethod
    def columns(self, table: str) -> set[str]:
        """Return the columns of a table; empty when there is no such table."""

    @abstractmethod
    def tables(self) -> set[str]:
        """Return the names of all tables."""

    @abstractmethod
    def create(self) -> None:
        """Create the database, empty."""

    @abstractmethod
    def copy(self, folder: Path) -> Database:
        """Create another database with the same content."""

    @abstractmethod
    def become(self, original: Any) -> None:
        """Replace the content with that of another database of the same kind; disconnect
        every open session."""

    @abstractmethod
    def drop(self) -> None:
        """Drop the database, even with open sessions."""

    def sessions(self) -> set[str]:
        """Describe the open sessions, except the one that asks."""
        return set()

    def locks(self) -> set[str]:
        """Describe the locks that sessions hold in the database."""
        return set()

    def beside(self) -> set[str]:
        """Return the files beside the database that are not the database itself."""
        return set()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read rows over a fresh connection."""
        with (
            self.connect() as connection,
            contextlib.closing(connection.cursor()) as cursor,
        ):
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    def execute(self, *statements: str) -> None:
        """Write over a fresh connection."""
        with (
            self.connect() as connection,
            contextlib.closing(connection.cursor()) as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)

    def applied(self, app: str = "shop") -> list[str]:
        """Return an app's recorded migrations in the order of recording."""
        if "django_migrations" not in self.tables():
            return []
        query = "SELECT app, name FROM django_migrations ORDER BY id"
        return [name for label, name in self.rows(query) if label == app]


def random_name() -> str:
    """Return a unique database name."""
    return f"walk_{secrets.token_hex(6)}"
