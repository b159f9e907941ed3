"""How is an entry of TOKENS read?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from migration_route.conf.values import Token
from migration_route.vocabulary import PEOPLE_ONLY, Scope

_SHA256_LENGTH = 64


def read_token(entry: Any) -> Token:
    """Read one entry of TOKENS; raises `ValueError` with what is wrong."""
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - a value, not a call, is wrong
    unknown = set(entry) - {"name", "sha256", "scopes", "databases", "expires"}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}.")
    name, sha256 = entry.get("name"), entry.get("sha256")
    if not isinstance(name, str) or not name:
        raise ValueError("needs a 'name'.")
    if (
        not isinstance(sha256, str)
        or len(sha256) != _SHA256_LENGTH
        or set(sha256.lower()) - set("0123456789abcdef")
    ):
        raise ValueError(
            "needs 'sha256', 64 hexadecimal digits: 'manage.py migration_route token "
            "new NAME --scope …' prints them."
        )
    scopes = _scopes(entry.get("scopes"))
    databases = entry.get("databases")
    if databases is not None and (
        not isinstance(databases, list | tuple | set | frozenset)
        or not all(isinstance(alias, str) for alias in databases)
    ):
        raise ValueError("'databases' must be a list of aliases.")
    return Token(
        name=name,
        sha256=sha256.lower(),
        scopes=scopes,
        databases=None if databases is None else frozenset(databases),
        expires=_day(entry.get("expires")),
    )


def _scopes(value: Any) -> frozenset[Scope]:
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


def _day(value: Any) -> date | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"'expires' must be a day such as '2027-01-01', not {value!r}."
        ) from error
