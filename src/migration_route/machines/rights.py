"""What may a machine do, where, and from where? Read alike for tokens and for OIDC."""

from __future__ import annotations

from typing import Any

from migration_route.machines.networks import Addresses, read_addresses
from migration_route.vocabulary import PEOPLE_ONLY, Scope


def databases_of_a_machine(value: Any) -> frozenset[str] | None:
    """Read `databases`; raises `ValueError`."""
    if value is None:
        return None
    if not isinstance(value, list | tuple | set | frozenset) or not all(
        isinstance(alias, str) for alias in value
    ):
        raise ValueError("'databases' must be a list of aliases.")
    return frozenset(value)


def networks_of_a_machine(value: Any) -> Addresses | None:
    """Read `networks`; raises `ValueError`."""
    if value is None:
        return None
    found, problems = read_addresses(value)
    if problems:
        raise ValueError(f"'networks': {problems[0]}")
    return found


def scopes_of_a_machine(value: Any) -> frozenset[Scope]:
    """Read `scopes`; raises `ValueError`, also for what people only may do."""
    if not isinstance(value, list | tuple | set | frozenset) or not value:
        raise ValueError(f"needs 'scopes', some of {[str(s) for s in Scope]}.")
    unknown = [scope for scope in value if scope not in list(Scope)]
    if unknown:
        raise ValueError(f"unknown scopes {unknown}.")
    scopes = frozenset(Scope(scope) for scope in value)
    if scopes & PEOPLE_ONLY:
        raise ValueError(
            f"{sorted(map(str, scopes & PEOPLE_ONLY))} can be done by people only."
        )
    return scopes
