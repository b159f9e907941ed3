"""How does an error look on the wire, and read on a terminal?"""

from __future__ import annotations

from migration_route import wire
from migration_route.errors import RouteError


def problem_answer(error: RouteError) -> wire.Problem:
    """Return an error as RFC 9457 shapes it."""
    facts = {key: value for key, value in error.facts.items() if key != "run"}
    return wire.Problem(
        type=f"urn:migration-route:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=error.http_status,
        code=error.code,
        detail=error.message,
        hint=error.hint,
        run=error.facts.get("run"),
        facts=facts,
    )


def problem_line(problem: wire.Problem) -> str:
    """Say what went wrong, and what to do about it."""
    return f"{problem.detail} {problem.hint}".strip()
