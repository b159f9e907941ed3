"""How does a verb of the command say what it has found?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from migration_route import wire
from migration_route.reporting import serialize


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where the words of a verb go."""

    write: Callable[[str], Any]
    write_error: Callable[[str], Any]

    def tell(
        self, options: dict[str, Any], answer: wire.Answer, lines: Iterable[str]
    ) -> None:
        """Tell the same as JSON, if that is asked for, or as lines for people."""
        if options["json"]:
            self.write(serialize.pretty(answer))
            return
        for line in lines:
            self.write(line)
