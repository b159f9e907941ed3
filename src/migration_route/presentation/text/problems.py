"""Errors as problem details, and as text."""

from __future__ import annotations

from migration_route.core.errors import RouteError
from migration_route.presentation import schemas


def problem_answer(error: RouteError) -> schemas.Problem:
    """Return an error as problem details (RFC 9457)."""
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
    """Return what went wrong and what to do about it."""
    return f"{problem.detail} {problem.hint}".strip()
