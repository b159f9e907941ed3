"""How are REAUTHENTICATE, and the groups of a database, read?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from migration_route.clock import duration

_USUAL = timedelta(minutes=15)


def read_reauthenticate(value: Any) -> tuple[timedelta | str | None, list[str]]:
    """Read REAUTHENTICATE: a duration, a dotted path, or None for off; return it with
    what is wrong in it. A guard that cannot be read is shut: it asks as usual."""
    if value is None:
        return None, []
    if isinstance(value, str):
        try:
            if found := duration(value):
                return found, []
        except ValueError:
            parts = value.split(".")
            if len(parts) > 1 and all(part.isidentifier() for part in parts):
                return value, []
    return _USUAL, [
        "REAUTHENTICATE must be a duration such as '15m', a dotted path, or None for off, "
        f"not {value!r:.80}."
    ]


def read_groups(value: Any) -> tuple[frozenset[str] | None, list[str]]:
    """Read the groups of a database; return them with what is wrong in them.

    What cannot be read lets nobody in but superusers.
    """
    if value is None:
        return None, []
    is_list = isinstance(value, list | tuple | set | frozenset)
    if not is_list or not all(isinstance(name, str) and name for name in value):
        return frozenset(), [f"'groups' must list names of groups, not {value!r:.80}."]
    return frozenset(value), []
