"""Which databases can be migrated, and what do they call themselves?"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections

from migration_route.conf import route_settings
from migration_route.errors import TenantsNotSupported, UnknownDatabase
from migration_route.vendors import vendor_name, wrapper_of

_SWITCHES = ("set_tenant", "set_schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A database that migrations are applied to."""

    alias: str  # its key in the setting DATABASES
    vendor: str  # "postgresql", "mysql" (MariaDB as well), "sqlite", "unknown"


def all_aliases() -> tuple[str, ...]:
    """Return the alias of every database, in the order of the setting DATABASES.

    An alias that is only the direct way past another one's pooler is not one more.
    """
    ways = route_settings().direct_aliases
    return tuple(
        alias
        for alias, settings in connections.settings.items()
        if settings["ENGINE"] != "django.db.backends.dummy" and alias not in ways
    )


def owner_of(alias: str) -> str:
    """Return the alias that this one is only the direct way to, or the alias itself."""
    ways = route_settings().databases.items()
    return next((owner for owner, found in ways if found.direct == alias), alias)


def refuse_tenants(alias: str) -> None:
    """Raise `TenantsNotSupported` where the backend of a database switches schemas, as
    django-tenants and packages like it do.

    The recorder of a run is that of one schema, and their migrate command migrates all.
    """
    connection = wrapper_of(alias)
    if any(callable(getattr(connection, name, None)) for name in _SWITCHES):
        raise TenantsNotSupported(
            f"The database {alias!r} holds a schema for each tenant "
            f"({connections.settings[alias]['ENGINE']}): a run migrates one schema, not a "
            "fleet of them."
        )


def find_target(alias: str) -> Target:
    """Return the target of that alias.

    Raises `UnknownDatabase`, with the names that there are.
    """
    known = all_aliases()
    if (owner := owner_of(alias)) != alias:
        raise UnknownDatabase(
            f"{alias!r} is only the direct way to the database {owner!r}.",
            hint=f"Ask for {owner!r}.",
        )
    if alias not in known:
        raise UnknownDatabase(
            f"There is no database {alias!r} in this project.",
            hint=f"There are: {', '.join(known)}.",
        )
    return Target(alias=alias, vendor=vendor_name(alias))
