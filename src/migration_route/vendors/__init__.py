"""What is particular about each database?

One module a vendor, behind one small interface; nothing else in the route asks which
vendor it has before it. A database that is none of the three is refused by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.errors import Misconfigured

if TYPE_CHECKING:
    from migration_route.vendors.copying import Copies
    from migration_route.vendors.identity import DatabaseIdentity
    from migration_route.vendors.in_place import InPlace
    from migration_route.vendors.interface import Vendor

_MODULES = {"postgresql": "postgresql", "mysql": "mysql", "sqlite": "sqlite"}


def vendor_of(alias: str) -> Vendor:
    """Return what is particular about the database of that alias.

    Raises `Misconfigured` for a database that the route cannot lock.
    """
    name = connections[alias].vendor
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


def in_place_of(alias: str) -> InPlace:
    """Return how the database of that alias carries out a plan and undoes it as a whole.

    Raises `Misconfigured` for a database that the route does not know.
    """
    name = vendor_of(alias).name
    module = import_module(f"migration_route.vendors.{_MODULES[name]}.in_place")
    found: InPlace = module.IN_PLACE
    return found
