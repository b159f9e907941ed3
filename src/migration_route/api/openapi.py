"""What does the JSON API look like to a machine? `openapi.json`, from the wire types."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from migration_route import __version__, wire
from migration_route.api.ledger_calls import ledger_calls
from migration_route.api.rehearsal_calls import rehearsal_calls
from migration_route.vocabulary import Mode, Phase

_REF = "#/components/schemas/{name}"
_RUN_ID = {
    "name": "run",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call: its answer, its body and its parameters."""

    method: str
    path: str
    summary: str
    answers: dict[int, type[wire.Answer]]
    body: type[wire.Request] | None = None
    parameters: tuple[dict[str, Any], ...] = ()
    public: bool = False
    media: str = "application/json"
    errors: tuple[int, ...] = field(default=(400, 401, 403, 404, 405, 409, 500, 503))


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _header(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": text}


_TEXT = {"type": "string"}
_LIMIT = _query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 200, "default": 20},
    "How many at most.",
)

_AFTER = _query(
    "after",
    {"type": "integer", "minimum": 0, "default": 0},
    "The last number that is known.",
)
_DATABASE = _query("database", {"type": "string", "default": "default"}, "An alias.")
_TARGETS = {
    **_query(
        "target",
        {"type": "array", "items": _TEXT},
        "app, app.name or app.zero; may repeat; none means everything.",
    ),
    "explode": True,
}

_PHASE = _query(
    "phase",
    {"type": "string", "enum": list(Phase)},
    "Only what belongs on this side of a deploy; any, or left out: everything.",
)

_CALLS = (
    _Call(
        method="get",
        path="/status",
        summary="Every database: what is pending",
        answers={200: wire.StatusAnswer},
    ),
    _Call(
        method="get",
        path="/ready",
        summary="Is nothing pending that this code requires?",
        answers={200: wire.ReadyAnswer, 503: wire.ReadyAnswer},
        public=True,
        errors=(400, 405),
    ),
    _Call(
        method="get",
        path="/health",
        summary="Is now a good moment for a plan? Nothing is begun",
        answers={200: wire.HealthAnswer},
        parameters=(_DATABASE, _TARGETS, _PHASE),
    ),
    _Call(
        method="get",
        path="/plan",
        summary="What would happen; nothing is executed",
        answers={200: wire.PlanAnswer},
        parameters=(
            _DATABASE,
            _TARGETS,
            _query(
                "mode",
                {"type": "string", "enum": list(Mode)},
                "How steps are carried out.",
            ),
            _query(
                "details",
                {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "none"}]},
                "After how many steps SQL is told, as `details_next` says; or none of it.",
            ),
            _PHASE,
        ),
    ),
    _Call(
        method="get",
        path="/runs",
        summary="Runs, newest first",
        answers={200: wire.RunsAnswer},
        parameters=(
            _query("database", _TEXT, "Only those of one database."),
            _query("before", _TEXT, "The cursor `next` of the page before."),
            _LIMIT,
        ),
    ),
    _Call(
        method="post",
        path="/runs",
        summary="Carry out the plan with this fingerprint",
        answers={200: wire.RunAnswer, 202: wire.RunAnswer},
        body=wire.CreateRun,
        parameters=(
            _header(
                "Idempotency-Key",
                {"type": "string", "minLength": 1, "maxLength": 200},
                "The same key and body start one run.",
            ),
            _header("Prefer", _TEXT, "wait=30 waits for an end up to that many seconds."),
        ),
        errors=(400, 401, 403, 404, 405, 409, 413, 422, 428, 500, 503),
    ),
    _Call(
        method="get",
        path="/runs/{run}",
        summary="One run",
        answers={200: wire.RunAnswer},
        parameters=(_RUN_ID,),
    ),
    _Call(
        method="get",
        path="/runs/{run}/events",
        summary="What happened in a run, in order",
        answers={200: wire.EventsAnswer},
        parameters=(
            _RUN_ID,
            _AFTER,
            _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "At most."),
        ),
    ),
    _Call(
        method="post",
        path="/runs/{run}/cancel",
        summary="Stop a run, in the middle of a statement as well; `force` kills it",
        answers={200: wire.RunAnswer},
        body=wire.CancelRun,
        parameters=(_RUN_ID,),
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    ),
    _Call(
        method="post",
        path="/runs/{run}/hold",
        summary="Let a run wait before its next step",
        answers={200: wire.RunAnswer},
        body=wire.GiveReason,
        parameters=(_RUN_ID,),
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    ),
    _Call(
        method="post",
        path="/runs/{run}/resume",
        summary="Let a run go on that is held; `force`: in spite of the signals",
        answers={200: wire.RunAnswer},
        body=wire.ResumeRun,
        parameters=(_RUN_ID,),
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    ),
    _Call(
        method="post",
        path="/runs/{run}/resolve",
        summary="Open a database again that a run left in between; for people only",
        answers={200: wire.RunAnswer},
        body=wire.Resolve,
        parameters=(_RUN_ID,),
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    ),
    _Call(
        method="post",
        path="/runs/{run}/end-blockers",
        summary="End the sessions that are in the way of a run; for people only",
        answers={200: wire.EndedBlockersAnswer},
        body=wire.GiveReason,
        parameters=(_RUN_ID,),
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    ),
    *(_Call(**call) for call in rehearsal_calls(_LIMIT)),
    *(_Call(**call) for call in ledger_calls(_LIMIT, _AFTER)),
)


@lru_cache(maxsize=4)
def document(base: str) -> bytes:
    """Return the OpenAPI document of an API that is mounted at `base`."""
    kinds = {
        kind for call in _CALLS for kind in (*call.answers.values(), call.body) if kind
    }
    _, components = msgspec.json.schema_components(
        sorted({*kinds, wire.Problem}, key=lambda kind: kind.__name__),
        ref_template=_REF,
    )
    paths: dict[str, dict[str, Any]] = {}
    for call in _CALLS:
        paths.setdefault(call.path, {})[call.method] = _operation(call)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Migration route",
                "version": __version__,
                "description": "Plans, applies and audits a Django project's migrations.",
            },
            "servers": [{"url": base}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer"},
                    "session": {"type": "apiKey", "in": "cookie", "name": "sessionid"},
                },
            },
            "security": [{"token": []}, {"session": []}],
        },
        indent=1,
    ).encode()


def _operation(call: _Call) -> dict[str, Any]:
    responses = {
        str(status): _response(kind, call.media, kind.__doc__ or "")
        for status, kind in call.answers.items()
    }
    for status in call.errors:
        responses.setdefault(
            str(status),
            _response(wire.Problem, "application/problem+json", "A problem."),
        )
    found: dict[str, Any] = {
        "summary": call.summary,
        "operationId": f"{call.method}_{call.path.strip('/').replace('/', '_')}".replace(
            "{run}", "run"
        ).replace("{rehearsal}", "rehearsal"),
        "parameters": list(call.parameters),
        "responses": responses,
    }
    if call.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(call.body)}},
        }
    if call.public:
        found["security"] = []
    return found


def _response(kind: type[wire.Answer], media: str, text: str) -> dict[str, Any]:
    return {
        "description": text.split("\n", 1)[0],
        "content": {media: {"schema": _ref(kind)}},
        "headers": {"Migration-Route-Build": {"schema": _TEXT}},
    }


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
