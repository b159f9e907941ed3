"""The calls of the JSON API, and the OpenAPI document that describes them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from migration_route import __version__
from migration_route.core.enums import Mode, Phase
from migration_route.presentation import schemas


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the API: its parameters, its body and its responses."""

    method: str
    path: str
    summary: str
    answers: dict[int, type[schemas.Answer] | None]  # None: without a body
    body: type[schemas.Request] | None = None
    parameters: tuple[dict[str, Any], ...] = ()
    public: bool = False
    media: str = "application/json"
    errors: tuple[int, ...] = field(default=(400, 401, 403, 404, 405, 409, 500, 503))


def query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def header(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": text}


TEXT = {"type": "string"}
LIMIT = query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 200, "default": 20},
    "Maximum number of items.",
)

AFTER = query(
    "after",
    {"type": "integer", "minimum": 0, "default": 0},
    "Return only what follows this number.",
)
DATABASE = query(
    "database", {"type": "string", "default": "default"}, "The alias of the database."
)
TARGETS = {
    **query(
        "target",
        {"type": "array", "items": TEXT},
        "app, app.name or app.zero; can be repeated; without it, everything.",
    ),
    "explode": True,
}

PHASE = query(
    "phase",
    {"type": "string", "enum": list(Phase)},
    "Include only the steps of this deploy phase; `any` or no value: all steps.",
)

RUN_ID = {
    "name": "run",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


def control_call(
    verb: str,
    summary: str,
    *,
    body: type[schemas.Request],
    answer: type[schemas.Answer] = schemas.RunAnswer,
) -> Call:
    """Return a call that controls one run."""
    return Call(
        method="post",
        path=f"/runs/{{run}}/{verb}",
        summary=summary,
        answers={200: answer},
        body=body,
        parameters=(RUN_ID,),
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    )


APPROVAL_CALLS = (
    control_call(
        "approve",
        "Approve a run that awaits approval (users only)",
        body=schemas.GiveReason,
    ),
    control_call(
        "reject",
        "Reject a run that awaits approval (users only)",
        body=schemas.GiveReason,
    ),
)


EXPORT_MEDIA = "application/jsonl"

LEDGER_CALLS = (
    Call(
        method="get",
        path="/ledger",
        summary="List the entries of the ledger, newest first",
        answers={200: schemas.EntriesAnswer},
        parameters=(
            query(
                "before",
                {"type": "integer", "minimum": 1},
                "The cursor `next` of the previous page.",
            ),
            LIMIT,
        ),
    ),
    Call(
        method="get",
        path="/ledger/export",
        summary="Export the whole ledger as JSON Lines, oldest first",
        answers={200: schemas.ExportedEntry},
        parameters=(AFTER,),
        media=EXPORT_MEDIA,
    ),
    Call(
        method="get",
        path="/ledger/verify",
        summary="Verify the integrity of the ledger",
        answers={200: schemas.VerificationAnswer},
    ),
)


PEOPLE_CALLS = (
    Call(
        method="post",
        path="/reauthenticate",
        summary="Renew the login by password; changes require a recent login",
        answers={204: None},
        body=schemas.Reauthenticate,
        errors=(400, 401, 403, 405, 413, 429, 500, 503),
    ),
)


READING_CALLS = (
    Call(
        method="get",
        path="/status",
        summary="Get the status of every database",
        answers={200: schemas.StatusAnswer},
    ),
    Call(
        method="get",
        path="/ready",
        summary="Check that no migration is pending that this code requires",
        answers={200: schemas.ReadyAnswer, 503: schemas.ReadyAnswer},
        public=True,
        errors=(400, 405),
    ),
    Call(
        method="get",
        path="/health",
        summary="Check the health signals for a plan; nothing is started",
        answers={200: schemas.HealthAnswer},
        parameters=(DATABASE, TARGETS, PHASE),
    ),
    Call(
        method="get",
        path="/plan",
        summary="Get a plan; nothing is executed",
        answers={200: schemas.PlanAnswer},
        parameters=(
            DATABASE,
            TARGETS,
            query(
                "mode",
                {"type": "string", "enum": list(Mode)},
                "How to carry out the steps.",
            ),
            query(
                "details",
                {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "none"}]},
                "Number of steps after which SQL is included (`details_next`), or none.",
            ),
            PHASE,
        ),
    ),
)


def _parameter(name: str, location: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": location, "schema": TEXT, "description": text}


REHEARSAL_CALLS = (
    Call(
        method="get",
        path="/rehearsals",
        summary="List rehearsals, newest first, without their reports",
        answers={200: schemas.RehearsalsAnswer},
        parameters=(
            _parameter("database", "query", "List only this database."),
            _parameter("before", "query", "The cursor `next` of the previous page."),
            LIMIT,
        ),
    ),
    Call(
        method="post",
        path="/rehearsals",
        summary="Rehearse the plan with this fingerprint on a copy, or in place",
        answers={200: schemas.RehearsalAnswer, 202: schemas.RehearsalAnswer},
        body=schemas.CreateRehearsal,
        parameters=(
            _parameter("Prefer", "header", "`wait=30` waits up to 30 seconds for the end."),
        ),
        errors=(400, 401, 403, 404, 405, 409, 413, 428, 500, 503),
    ),
    Call(
        method="get",
        path="/rehearsals/{rehearsal}",
        summary="Get a rehearsal, with its report when it has ended",
        answers={200: schemas.RehearsalAnswer},
        parameters=(
            {
                **_parameter("rehearsal", "path", "The id of the rehearsal."),
                "required": True,
                "schema": {**TEXT, "pattern": "^[0-9a-f]{32}$"},
            },
        ),
    ),
)


RUN_CALLS = (
    Call(
        method="get",
        path="/runs",
        summary="List runs, newest first",
        answers={200: schemas.RunsAnswer},
        parameters=(
            query("database", TEXT, "List only this database."),
            query("before", TEXT, "The cursor `next` of the previous page."),
            LIMIT,
        ),
    ),
    Call(
        method="post",
        path="/runs",
        summary="Apply the plan with this fingerprint",
        answers={200: schemas.RunAnswer, 202: schemas.RunAnswer},
        body=schemas.CreateRun,
        parameters=(
            header(
                "Idempotency-Key",
                {"type": "string", "minLength": 1, "maxLength": 200},
                "Requests with the same key and body start one run.",
            ),
            header("Prefer", TEXT, "`wait=30` waits up to 30 seconds for the end."),
        ),
        errors=(400, 401, 403, 404, 405, 409, 413, 422, 428, 500, 503),
    ),
    Call(
        method="get",
        path="/runs/{run}",
        summary="Get a run",
        answers={200: schemas.RunAnswer},
        parameters=(RUN_ID,),
    ),
    Call(
        method="get",
        path="/runs/{run}/events",
        summary="List the events of a run, in order",
        answers={200: schemas.EventsAnswer},
        parameters=(
            RUN_ID,
            AFTER,
            query(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": 500},
                "Maximum number of events.",
            ),
        ),
    ),
    control_call(
        "cancel",
        "Cancel a run, even in the middle of a statement; `force` kills its processes",
        body=schemas.CancelRun,
    ),
    control_call(
        "pause",
        "Pause a run before its next step",
        body=schemas.GiveReason,
    ),
    control_call(
        "resume",
        "Resume a paused run, or check again whether a waiting run can start; `force` "
        "ignores health signals, windows and freezes",
        body=schemas.ResumeRun,
    ),
    control_call(
        "resolve",
        "Resolve a partially applied run and unlock its database (users only)",
        body=schemas.Resolve,
    ),
    control_call(
        "terminate-blockers",
        "Terminate the sessions that block a run (users only)",
        body=schemas.GiveReason,
        answer=schemas.TerminatedBlockersAnswer,
    ),
)


CALLS: tuple[Call, ...] = (
    *READING_CALLS,
    *RUN_CALLS,
    *APPROVAL_CALLS,
    *REHEARSAL_CALLS,
    *LEDGER_CALLS,
    *PEOPLE_CALLS,
)


_REF = "#/components/schemas/{name}"


@lru_cache(maxsize=4)
def document(base: str) -> bytes:
    """Return the OpenAPI document of an API that is mounted at `base`."""
    kinds = {kind for call in CALLS for kind in (*call.answers.values(), call.body) if kind}
    _, components = msgspec.json.schema_components(
        sorted({*kinds, schemas.Problem}, key=lambda kind: kind.__name__),
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
                "description": "Plan, rehearse, approve, apply and audit migrations.",
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
            _response(schemas.Problem, "application/problem+json", "An error."),
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
    """Done, without a body."""


def _response(kind: type[schemas.Answer] | None, media: str, text: str) -> dict[str, Any]:
    content = {} if kind is None else {"content": {media: {"schema": _ref(kind)}}}
    return {
        "description": text.split("\n", 1)[0],
        **content,
        "headers": {"Migration-Route-Build": {"schema": TEXT}},
    }


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
