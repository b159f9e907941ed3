"""Vendor-specific code: one subpackage per vendor, behind the interfaces of `base`. Other
databases are rejected by name.

This module opens connections, and says why a database refuses reads or writes, by the code
of its error. A driver's message may contain hosts and users, so it is only logged; the
causes are shown: what was refused, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionDoesNotExist

from migration_route.core.errors import DatabaseUnavailable, Misconfigured
from migration_route.core.redaction import redact

if TYPE_CHECKING:
    from migration_route.vendors.base import DatabaseIdentity, Vendor
    from migration_route.vendors.base_rehearsal import Copies, InPlaceSupport

UNKNOWN = "unknown"
"""The vendor of a database whose backend cannot be loaded."""

_VENDORS = frozenset({"postgresql", "mysql", "sqlite"})
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


def fetch_rows(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any] | None = None
) -> list[tuple[Any, ...]]:
    """Return the rows of a query. Raises `django.db.DatabaseError`."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


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
    if name not in _VENDORS:
        raise Misconfigured(
            f"The database {alias!r} is of the kind {name!r}, which is not supported.",
            hint="Use SQLite, PostgreSQL, MySQL or MariaDB.",
        )
    module = import_module(f"migration_route.vendors.{name}")
    vendor: Vendor = module.VENDOR
    return vendor


def identity_of(connection: BaseDatabaseWrapper) -> DatabaseIdentity:
    """Return the identity of a connection's database, as its server reports it.

    Opens the connection. Raises `django.db.Error` if the server does not answer.
    """
    module = import_module(f"migration_route.vendors.{connection.vendor}")
    connection.ensure_connection()
    with connection.wrap_database_errors:
        identity: DatabaseIdentity = module.VENDOR.identity(connection.connection)
    return identity


def copies_of(alias: str) -> Copies:
    """Return the implementation that copies a database.

    Raises `Misconfigured` for an unsupported vendor.
    """
    name = vendor_of(alias).name
    module = import_module(f"migration_route.vendors.{name}.copies")
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


_PRIVILEGE = (
    "The database role of this connection lacks a privilege",
    "Grant it what `manage.py migrate` needs (CREATE, and all on the tables of "
    "migration_route), or set LEDGER_DATABASE to another database.",
)
_READ_ONLY = (
    "The database accepts no writes from this connection: it is read-only",
    "Check for a replica, `default_transaction_read_only`, `read_only`, and a file or a "
    "directory without write permission.",
)
_FULL = ("The database has no space left", "Free space on its disk, or raise its limit.")
_FILE = (
    "The database file, or a file beside it, cannot be used",
    "Let the user of this process read and write the file and its directory.",
)
_NO_SCHEMA = (
    "The database has no schema in which the role may create tables",
    "Grant USAGE and CREATE on the schema of the migration_route tables, or set "
    "search_path.",
)
_PASSWORD = (
    "The database rejected the role of this connection",
    "Compare USER and PASSWORD in DATABASES with the server's accounts.",
)
_BY_SQLSTATE = {  # PostgreSQL, Appendix A
    "42501": _PRIVILEGE,
    "25006": _READ_ONLY,
    "53100": _FULL,
    "3F000": _NO_SCHEMA,
    "28000": _PASSWORD,
    "28P01": _PASSWORD,
}
_BY_NUMBER = {  # MySQL and MariaDB, server error reference
    **dict.fromkeys((1044, 1142, 1143, 1227, 1370), _PRIVILEGE),
    **dict.fromkeys((1290, 1792, 1836), _READ_ONLY),
    **dict.fromkeys((1021, 1041, 1114), _FULL),
    **dict.fromkeys((1045, 1698), _PASSWORD),
}
_BY_NAME = {  # SQLite, result codes; an extended one starts with its primary one
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_FULL": _FULL,
    "SQLITE_CANTOPEN": _FILE,
    "SQLITE_PERM": _FILE,
    "SQLITE_AUTH": _FILE,
    "SQLITE_IOERR": _FILE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRefusal:
    message: str
    hint: str


def refusal_of(error: BaseException) -> DatabaseRefusal | None:
    """Return why a database refused an operation; None for any other error.

    Examines what the driver raised, below Django's own exception.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.filename:
            message, hint = _FILE
            return DatabaseRefusal(
                message=f"{message}: {cause.filename}: {cause.strerror}.", hint=hint
            )
        if (known := _known(cause)) is not None:
            message, hint = known
            return DatabaseRefusal(message=f"{message}{_object(cause)}.", hint=hint)
        cause = cause.__cause__ or cause.__context__
    return None


def _known(error: BaseException) -> tuple[str, str] | None:
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state in _BY_SQLSTATE:
        return _BY_SQLSTATE[state]
    name = getattr(error, "sqlite_errorname", None) or ""
    for primary, found in _BY_NAME.items():
        if name == primary or name.startswith(f"{primary}_"):
            return found
    number = error.args[0] if error.args else None
    # psycopg and sqlite3 set a text here; MySQLdb and PyMySQL the server's number.
    return _BY_NUMBER.get(number) if isinstance(number, int) else None


def _object(error: BaseException) -> str:
    """Return the one-line message of PostgreSQL for states in which it names an object of
    the database, and neither host nor role."""
    diagnostics = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None) if diagnostics else None
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return f" ({primary})" if primary and state in {"42501", "25006", "3F000"} else ""
