"""How does a verb say what it has found?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from migration_route import wire


def pretty(answer: wire.Answer | bytes) -> str:
    """Return an answer, or the JSON of one, as JSON for a terminal."""
    text = answer if isinstance(answer, bytes) else wire.to_json(answer)
    return msgspec.json.format(text, indent=2).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where the words of a verb go."""

    write: Callable[[str], Any]
    write_error: Callable[[str], Any]

    def tell(
        self, options: dict[str, Any], answer: wire.Answer | bytes, lines: Iterable[str]
    ) -> None:
        """Tell the same as JSON, if that is asked for, or as lines for people."""
        if options["json"]:
            self.write(pretty(answer))
            return
        for line in lines:
            self.write(line)
