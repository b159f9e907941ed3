"""The OpenAPI document, which describes the calls of the API."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from migration_route import __version__
from migration_route.api import requests
from migration_route.api.endpoints import CALLS, TAGS, Call
from migration_route.api.examples import PROBLEMS
from migration_route.presentation import schemas

_REF = "#/components/schemas/{name}"
_PROBLEM_REF = "#/components/examples/problem_{status}"


def get_openapi(request: HttpRequest) -> HttpResponse:
    """`GET openapi.json`: public, and the same for every caller."""
    requests.check_query(request, ())
    base = reverse("migration_route:api-status").removesuffix("/status")
    return HttpResponse(document(base), content_type="application/json")


def schema_components(ref_template: str = _REF) -> dict[str, Any]:
    kinds = {kind for call in CALLS for kind in (*call.answers.values(), call.body) if kind}
    _, components = msgspec.json.schema_components(
        sorted({*kinds, schemas.Problem}, key=lambda kind: kind.__name__),
        ref_template=ref_template,
    )
    return components


@lru_cache(maxsize=4)
def document(base: str) -> bytes:
    """Return the OpenAPI document of an API that is mounted at `base`."""
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method] = _operation(call)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Migration route",
                "version": __version__,
                "description": "Plan, rehearse, approve, apply and audit migrations.",
            },
            "servers": [{"url": base}],
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": schema_components(),
                "examples": {
                    f"problem_{status}": {"value": msgspec.to_builtins(example)}
                    for status, example in PROBLEMS.items()
                },
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
        str(status): _answer(call, status, kind) for status, kind in call.answers.items()
    }
    for status in call.errors:
        responses.setdefault(str(status), _problem(status))
    found: dict[str, Any] = {
        "tags": [call.tag],
        "summary": call.summary,
        "description": f"{call.description}\n\nPermission: {call.permission}.",
        "operationId": call.operation_id,
        "parameters": list(call.parameters),
        "responses": responses,
    }
    if call.body is not None:
        content = _content(call.body, example=call.body_example)
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    if call.public:
        found["security"] = []
    return found


def _answer(call: Call, status: int, kind: type[schemas.Answer] | None) -> dict[str, Any]:
    if kind is None and call.is_file:
        return _response("The file.", content={call.media: {}})
    if kind is None:
        return _response("Done, without a body.")
    example = msgspec.to_builtins(call.examples.get(status))
    content = {call.media: _content(kind, example=example)}
    return _response((kind.__doc__ or "").split("\n", 1)[0], content=content)


def _problem(status: int) -> dict[str, Any]:
    examples = {PROBLEMS[status].code: {"$ref": _PROBLEM_REF.format(status=status)}}
    content = _content(schemas.Problem, examples=examples)
    return _response("An error.", content={"application/problem+json": content})


def _response(text: str, **content: Any) -> dict[str, Any]:
    headers = {"Migration-Route-Build": {"schema": {"type": "string"}}}
    return {"description": text, **content, "headers": headers}


def _content(kind: type[msgspec.Struct], **examples: Any) -> dict[str, Any]:
    given = {name: found for name, found in examples.items() if found is not None}
    return {"schema": {"$ref": _REF.format(name=kind.__name__)}, **given}
