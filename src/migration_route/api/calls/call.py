"""What is one call of the API, and which parameters do several of them take?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from migration_route import wire
from migration_route.vocabulary import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: its answer, its body and its parameters."""

    method: str
    path: str
    summary: str
    answers: dict[int, type[wire.Answer] | None]  # None: without a body
    body: type[wire.Request] | None = None
    parameters: tuple[dict[str, Any], ...] = ()
    public: bool = False
    media: str = "application/json"
    errors: tuple[int, ...] = field(default=(400, 401, 403, 404, 405, 409, 500, 503))


def query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a parameter behind the question mark."""
    return {"name": name, "in": "query", "schema": schema, "description": text}


def header(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a parameter in a header."""
    return {"name": name, "in": "header", "schema": schema, "description": text}


TEXT = {"type": "string"}
LIMIT = query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 200, "default": 20},
    "How many at most.",
)

AFTER = query(
    "after",
    {"type": "integer", "minimum": 0, "default": 0},
    "The last number that is known.",
)
DATABASE = query("database", {"type": "string", "default": "default"}, "An alias.")
TARGETS = {
    **query(
        "target",
        {"type": "array", "items": TEXT},
        "app, app.name or app.zero; may repeat; none means everything.",
    ),
    "explode": True,
}

PHASE = query(
    "phase",
    {"type": "string", "enum": list(Phase)},
    "Only what belongs on this side of a deploy; any, or left out: everything.",
)

RUN_ID = {
    "name": "run",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


def wish(
    verb: str,
    summary: str,
    *,
    body: type[wire.Request],
    answer: type[wire.Answer] = wire.RunAnswer,
) -> Call:
    """Return a call that asks something of one run."""
    return Call(
        method="post",
        path=f"/runs/{{run}}/{verb}",
        summary=summary,
        answers={200: answer},
        body=body,
        parameters=(RUN_ID,),
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    )
