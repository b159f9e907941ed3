"""Is this the id of a run or of a rehearsal?"""

from __future__ import annotations

from migration_route.errors import InvalidRequest

_LENGTH = 32


def checked(text: str, *, of: str) -> str:
    """Return an id as it came. Raises `InvalidRequest` when it cannot be one."""
    if len(text) != _LENGTH or set(text) - set("0123456789abcdef"):
        raise InvalidRequest(f"The id of a {of} has {_LENGTH} hexadecimal digits.")
    return text
