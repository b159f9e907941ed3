"""Vendor-specific code: one subpackage per vendor, behind the interfaces of `base`.

Other databases are rejected by name.
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

    Raises `DatabaseUnavailable` if the backend cannot be imported or set up, whatever error
    it raises, and `ConnectionDoesNotExist` for an unknown alias.
    """
    try:
        return connections[alias]
    except ConnectionDoesNotExist:
        raise
    except Exception as error:
        raise unavailable(alias, error) from error


def usable_wrappers() -> list[BaseDatabaseWrapper]:
    """Return the connections of all databases whose backend can be loaded."""
    wrappers = []
    for alias in connections:
        with suppress(DatabaseUnavailable):
            wrappers.append(wrapper_of(alias))
    return wrappers


def vendor_name(alias: str) -> str:
    """Return Django's vendor name of a database, or `UNKNOWN` if its backend cannot be
    loaded."""
    try:
        return wrapper_of(alias).vendor
    except DatabaseUnavailable:
        return UNKNOWN


def open_connection(alias: str) -> BaseDatabaseWrapper:
    """Return this thread's open connection to a database.

    Raises `DatabaseUnavailable` for every failure: a missing driver, an unreachable server,
    and backend errors that are neither a `DatabaseError` nor an `Error` of Django.
    """
    connection = wrapper_of(alias)
    try:
        connection.ensure_connection()
    except Exception as error:
        raise unavailable(alias, error) from error
    return connection


def unavailable(alias: str, error: Exception) -> DatabaseUnavailable:
    """Return the error that says why a database does not answer.

    A driver's message can contain hosts and users, so the error names the cause where it is
    known, and otherwise only the exception's type.
    """
    if refusal := refusal_of(error):
        return DatabaseUnavailable(
            f"The database {alias!r} cannot be used. {refusal.message}", hint=refusal.hint
        )
    if isinstance(error, ImproperlyConfigured) and isinstance(error.__cause__, ImportError):
        error = error.__cause__  # Django's text omits the module's name
    reason = type(error).__name__
    if isinstance(error, ImproperlyConfigured | ImportError):
        text = redact(" ".join(str(error).split()))
        reason = f"{reason}: {text[:_LONGEST_REASON]}"
    return DatabaseUnavailable(f"The database {alias!r} does not answer ({reason}).")


def vendor_of(alias: str) -> Vendor:
    """Return the vendor implementation of a database.

    Raises `Misconfigured` for an unsupported vendor, and `DatabaseUnavailable` if the
    backend cannot be loaded.
    """
    name = wrapper_of(alias).vendor
    if name not in _MODULES:
        raise Misconfigured(
            f"The database {alias!r} is of the kind {name!r}, which is not supported.",
            hint="Use SQLite, PostgreSQL, MySQL or MariaDB.",
        )
    module = import_module(f"migration_route.vendors.{_MODULES[name]}")
    vendor: Vendor = module.VENDOR
    return vendor


def identity_of(connection: BaseDatabaseWrapper) -> DatabaseIdentity:
    """Return the identity of a connection's database, as its server reports it.

    Opens the connection. Raises `django.db.Error` if the server does not answer.
    """
    module = import_module(f"migration_route.vendors.{_MODULES[connection.vendor]}")
    connection.ensure_connection()
    with connection.wrap_database_errors:
        identity: DatabaseIdentity = module.VENDOR.identity(connection.connection)
    return identity


def copies_of(alias: str) -> Copies:
    """Return the implementation that copies a database.

    Raises `Misconfigured` for an unsupported vendor.
    """
    name = vendor_of(alias).name
    module = import_module(f"migration_route.vendors.{_MODULES[name]}.copies")
    copies: Copies = module.COPIES
    return copies


def in_place_of(alias: str) -> InPlaceSupport:
    """Return the implementation that applies a plan in a database and rolls it back as a
    whole.

    Raises `Misconfigured` for an unsupported vendor.
    """
    name = vendor_of(alias).name
    module = import_module(f"migration_route.vendors.{_IN_PLACE[name]}")
    support: InPlaceSupport = module.IN_PLACE
    return support
