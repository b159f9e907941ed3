"""Where does a request want to go, and is there such a place?

The rules are those of `manage.py migrate APP [NAME]`, so is the order.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.apps import apps
from django.db.migrations.exceptions import AmbiguityError
from django.db.migrations.loader import MigrationLoader

from migration_route.errors import InvalidRequest, UnknownTarget
from migration_route.vocabulary import OWN_APP

_FORMS = "app, app.name or app.zero"
Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A target as it was asked for, found in the graph."""

    label: str  # "app", "app.name", "app.zero"
    arguments: tuple[str, ...]  # those of `manage.py migrate`
    keys: tuple[Key, ...]  # those of the migration executor; (app, None) is zero


def everything(loader: MigrationLoader) -> Destination:
    """Return the destination of a plain `manage.py migrate`."""
    return Destination(label="", arguments=(), keys=tuple(loader.graph.leaf_nodes()))


def find_destination(
    text: str, loader: MigrationLoader, *, ledger_here: bool
) -> Destination:
    """Find a target in the graph. Raises `UnknownTarget` or `InvalidRequest`."""
    app, dot, name = text.partition(".")
    try:
        apps.get_app_config(app)
    except LookupError as error:
        raise UnknownTarget(
            f"There is no app {app!r}.", hint=f"A target is {_FORMS}."
        ) from error
    if dot and not name:
        raise UnknownTarget(f"{text!r} names no migration.", hint=f"A target is {_FORMS}.")
    if app not in loader.migrated_apps:
        raise UnknownTarget(f"The app {app!r} does not have migrations.")
    if app == OWN_APP and ledger_here and name:
        raise InvalidRequest(
            "The ledger cannot migrate its own tables while it writes to them.",
            hint="Use 'manage.py migrate migration_route …' while no run is active.",
        )
    if not name:
        leaves = tuple(key for key in loader.graph.leaf_nodes() if key[0] == app)
        return Destination(label=app, arguments=(app,), keys=leaves)
    if name == "zero":
        return Destination(label=text, arguments=(app, "zero"), keys=((app, None),))
    key = _migration(app, name, loader)
    return Destination(label=f"{key[0]}.{key[1]}", arguments=(app, name), keys=(key,))


def _migration(app: str, name: str, loader: MigrationLoader) -> tuple[str, str]:
    try:
        found = loader.get_migration_by_prefix(app, name)
    except AmbiguityError as error:
        fitting = sorted(
            n for a, n in loader.disk_migrations if a == app and n.startswith(name)
        )
        raise UnknownTarget(
            f"Migrations of {app!r} that begin with {name!r}: {', '.join(fitting)}."
        ) from error
    except KeyError as error:
        raise UnknownTarget(f"No migration of {app!r} begins with {name!r}.") from error
    key = (app, found.name)
    # A partially applied squashed migration is not in the graph; Django goes to the
    # last one that it replaces (ticket 25945).
    if key not in loader.graph.nodes and key in loader.replacements:
        return tuple(loader.replacements[key].replaces[-1])  # type: ignore[return-value]
    return key
