"""What does the JSON API look like to a machine? `openapi.json`, from the wire types."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import msgspec

from migration_route import __version__, wire
from migration_route.api.calls import CALLS, TEXT, Call

_REF = "#/components/schemas/{name}"


@lru_cache(maxsize=4)
def document(base: str) -> bytes:
    """Return the OpenAPI document of an API that is mounted at `base`."""
    kinds = {kind for call in CALLS for kind in (*call.answers.values(), call.body) if kind}
    _, components = msgspec.json.schema_components(
        sorted({*kinds, wire.Problem}, key=lambda kind: kind.__name__),
        ref_template=_REF,
    )
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
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


def _operation(call: Call) -> dict[str, Any]:
    responses = {
        str(status): _response(kind, call.media, (kind or _Nothing).__doc__ or "")
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


class _Nothing:
    """Done; there is no body."""


def _response(kind: type[wire.Answer] | None, media: str, text: str) -> dict[str, Any]:
    content = {} if kind is None else {"content": {media: {"schema": _ref(kind)}}}
    return {
        "description": text.split("\n", 1)[0],
        **content,
        "headers": {"Migration-Route-Build": {"schema": TEXT}},
    }


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
