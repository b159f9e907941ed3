"""What is a machine's token, and how is an entry of TOKENS read? No Django.

The settings keep the digest of a secret that is shown once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from migration_route.errors import InvalidRequest
from migration_route.vocabulary import PEOPLE_ONLY, Scope

_PREFIX = "mrt_"
_SHA256_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A machine's right to ask, known only by the digest of its secret."""

    name: str
    sha256: str
    scopes: frozenset[Scope]
    databases: frozenset[str] | None = None  # None: every database
    expires: date | None = None  # the first day on which it is no longer good


def new_secret() -> str:
    """Return a secret of 256 random bits, with a mark that scanners can look for."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """Return what the settings keep: a random secret needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_entry(
    secret: str, *, name: str, scopes: list[str], databases: list[str] | None, expires: str
) -> dict[str, Any]:
    """Return the entry of TOKENS for a secret; raises `InvalidRequest` for a wrong one."""
    entry: dict[str, Any] = {
        "name": name,
        "sha256": digest_of(secret),
        "scopes": sorted(set(scopes)),
    }
    if databases:
        entry["databases"] = databases
    if expires:
        entry["expires"] = expires
    try:
        read_token(entry)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    return entry


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
