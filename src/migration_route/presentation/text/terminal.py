"""How does a verb say what it has found?

How does an error look on the wire, and read on a terminal?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from migration_route.core.errors import RouteError
from migration_route.presentation import schemas


def problem_answer(error: RouteError) -> schemas.Problem:
    """Return an error as RFC 9457 shapes it."""
    facts = {key: value for key, value in error.facts.items() if key != "run"}
    return schemas.Problem(
        type=f"urn:migration-route:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=error.http_status,
        code=error.code,
        detail=error.message,
        hint=error.hint,
        run=error.facts.get("run"),
        facts=facts,
    )


def problem_line(problem: schemas.Problem) -> str:
    """Say what went wrong, and what to do about it."""
    return f"{problem.detail} {problem.hint}".strip()


def pretty(answer: schemas.Answer | bytes) -> str:
    """Return an answer, or the JSON of one, as JSON for a terminal."""
    text = answer if isinstance(answer, bytes) else schemas.to_json(answer)
    return msgspec.json.format(text, indent=2).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where the words of a verb go."""

    write: Callable[[str], Any]
    write_error: Callable[[str], Any]

    def tell(
        self, options: dict[str, Any], answer: schemas.Answer | bytes, lines: Iterable[str]
    ) -> None:
        """Tell the same as JSON, if that is asked for, or as lines for people."""
        if options["json"]:
            self.write(pretty(answer))
            return
        for line in lines:
            self.write(line)
