"""What has the project given to a person, and on which databases?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migration_route.conf import route_settings
from migration_route.targets import Target, all_aliases, find_target
from migration_route.vocabulary import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The rights of a person."""

    scopes: frozenset[Scope]  # on every database that they may touch
    scopes_on: Mapping[str, frozenset[Scope]]  # more of them, on single databases
    databases: frozenset[str] | None  # that they may touch; None: every one


def granted_to(user: Any) -> Granted:
    """Return what a member of staff may do. Raises `DatabaseError`.

    A back end that decides for objects is asked about each database as well, by a
    `Target`; Django's own says nothing about objects.
    """
    scopes = frozenset(scope for scope in Scope if user.has_perm(permission_of(scope)))
    targets = [find_target(alias) for alias in all_aliases()]
    on = {target.alias: _on(user, target, scopes) for target in targets}
    return Granted(
        scopes=scopes,
        scopes_on={alias: found for alias, found in on.items() if found},
        databases=databases_of(user),
    )


def _on(user: Any, target: Target, scopes: frozenset[Scope]) -> frozenset[Scope]:
    return frozenset(
        scope
        for scope in Scope
        if scope not in scopes and user.has_perm(permission_of(scope), target)
    )


def databases_of(user: Any) -> frozenset[str] | None:
    """Return the databases that the groups of `DATABASES` let the user touch."""
    kept = {
        alias: found.groups
        for alias, found in route_settings().databases.items()
        if found.groups is not None
    }
    if not kept or getattr(user, "is_superuser", False):
        return None
    groups = getattr(user, "groups", None)
    names = frozenset(() if groups is None else groups.values_list("name", flat=True))
    return frozenset(
        alias for alias in all_aliases() if alias not in kept or kept[alias] & names
    )


def permission_of(scope: Scope) -> str:
    """Return the permission that gives a person this right."""
    return f"migration_route.{'view_run' if scope is Scope.READ else scope.value}"
