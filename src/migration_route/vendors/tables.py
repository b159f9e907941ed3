"""Which tables were there before the plan, under whatever name they go by now?"""

from __future__ import annotations

from collections.abc import Iterable

from migration_route.vendors.statements import Name


class Tables:
    """Names of tables, as the statements of a plan leave them one by one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._now = {name.lower(): name for name in names}

    def old(self, name: Name | None) -> str | None:
        """Return the name from before the plan, "" for a table that the plan has made,
        None where there is no such table now."""
        return self._now.get(name[-1].lower()) if name else None

    def create(self, name: Name | None) -> None:
        """Note that the plan has made a table."""
        if name:
            self._now[name[-1].lower()] = ""

    def drop(self, name: Name | None) -> None:
        """Note that the plan has dropped a table."""
        if name:
            self._now.pop(name[-1].lower(), None)

    def rename(self, old: Name | None, new: Name | None) -> None:
        """Note that the plan has given a table another name."""
        if old and new and (kept := self.old(old)) is not None:
            self.drop(old)
            self._now[new[-1].lower()] = kept
