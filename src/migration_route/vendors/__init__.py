"""What is particular about each database?

One module a vendor, behind one small interface; nothing else in the route asks which
vendor it has before it. A database that is none of the three is refused by name.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionDoesNotExist

from migration_route.core.errors import DatabaseUnavailable, Misconfigured
from migration_route.core.redaction import redact
from migration_route.vendors.error_causes import refusal_of

if TYPE_CHECKING:
    from migration_route.vendors.base import Vendor
    from migration_route.vendors.base_copies import Copies
    from migration_route.vendors.base_identity import DatabaseIdentity
    from migration_route.vendors.base_in_place import InPlaceSupport

UNKNOWN = "unknown"
"""The vendor of a database whose backend cannot be loaded."""

_MODULES = {"postgresql": "postgresql", "mysql": "mysql", "sqlite": "sqlite"}
_LONGEST_REASON = 300
_IN_PLACE = {
    "sqlite": "sqlite.copies",
    "postgresql": "postgresql.in_place",
    "mysql": "mysql.copies",
}


def wrapper_of(alias: str) -> BaseDatabaseWrapper:
    """Return `connections[alias]`.

    Raises `DatabaseUnavailable` where its backend cannot be imported or set up, whatever
    it raises then.
    """
    try:
        return connections[alias]
    except ConnectionDoesNotExist:
        raise
    except Exception as error:
        raise unavailable(alias, error) from error


def usable_wrappers() -> list[BaseDatabaseWrapper]:
    """Return the connection of every database whose backend can be loaded."""
    found = []
    for alias in connections:
        with suppress(DatabaseUnavailable):
            found.append(wrapper_of(alias))
    return found


def vendor_name(alias: str) -> str:
    """Return what Django calls the vendor of a database, `UNKNOWN` where its backend
    cannot be loaded."""
    try:
        return wrapper_of(alias).vendor
    except DatabaseUnavailable:
        return UNKNOWN


def open_connection(alias: str) -> BaseDatabaseWrapper:
    """Return the connection of this thread to a database, open.

    Raises `DatabaseUnavailable`, whatever a backend raises: a driver that is missing, an
    unreachable server, and what is neither a `DatabaseError` nor an `Error` of Django.
    """
    connection = wrapper_of(alias)
    try:
        connection.ensure_connection()
    except Exception as error:
        raise unavailable(alias, error) from error
    return connection


def unavailable(alias: str, error: Exception) -> DatabaseUnavailable:
    """Return the error that says of a database what kept it from answering.

    A driver's message can name hosts and users, so it is shown by its cause where that is
    known, and by its type otherwise.
    """
    if refusal := refusal_of(error):
        return DatabaseUnavailable(
            f"The database {alias!r} cannot be used. {refusal.message}", hint=refusal.hint
        )
    if isinstance(error, ImproperlyConfigured) and isinstance(error.__cause__, ImportError):
        error = error.__cause__  # Django's own text does not name the module
    reason = type(error).__name__
    if isinstance(error, ImproperlyConfigured | ImportError):
        words = redact(" ".join(str(error).split()))
        reason = f"{reason}: {words[:_LONGEST_REASON]}"
    return DatabaseUnavailable(f"The database {alias!r} does not answer ({reason}).")


def vendor_of(alias: str) -> Vendor:
    """Return what is particular about the database of that alias.

    Raises `Misconfigured` for a database that the route cannot lock, and
    `DatabaseUnavailable` where its backend cannot be loaded.
    """
    name = wrapper_of(alias).vendor
    if name not in _MODULES:
        raise Misconfigured(
            f"The migration route does not know databases of the kind {name!r} ({alias}).",
            hint="It knows SQLite, PostgreSQL, MySQL and MariaDB.",
        )
    module = import_module(f"migration_route.vendors.{_MODULES[name]}")
    found: Vendor = module.VENDOR
    return found


def identity_of(connection: BaseDatabaseWrapper) -> DatabaseIdentity:
    """Return which database a connection stands in, as its server says; opens it.

    Raises `django.db.Error` where the server does not answer.
    """
    module = import_module(f"migration_route.vendors.{_MODULES[connection.vendor]}")
    connection.ensure_connection()
    with connection.wrap_database_errors:
        found: DatabaseIdentity = module.VENDOR.identity(connection.connection)
    return found


def copies_of(alias: str) -> Copies:
    """Return how copies of the database of that alias are made.

    Raises `Misconfigured` for a database that the route does not know.
    """
    name = vendor_of(alias).name
    module = import_module(f"migration_route.vendors.{_MODULES[name]}.copies")
    found: Copies = module.COPIES
    return found


def in_place_of(alias: str) -> InPlaceSupport:
    """Return how the database of that alias carries out a plan and undoes it as a whole.

    Raises `Misconfigured` for a database that the route does not know.
    """
    name = vendor_of(alias).name
    module = import_module(f"migration_route.vendors.{_IN_PLACE[name]}")
    found: InPlaceSupport = module.IN_PLACE
    return found
