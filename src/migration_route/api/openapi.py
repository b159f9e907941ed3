"""What does the JSON API look like to a machine? `openapi.json`, from the wire types.

What is one call of the API, and which parameters do several of them take?

Which calls are about approvals?

Which calls are about the ledger?

Which calls are for people alone, with a session?

Which calls only look?

Which calls are about rehearsals?

Which calls are about runs?

Which calls does the API answer to? `openapi.json` is made from them.
"""

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
    """One call: its answer, its body and its parameters."""

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
    body: type[schemas.Request],
    answer: type[schemas.Answer] = schemas.RunAnswer,
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


APPROVAL_CALLS = (
    wish(
        "approve",
        "Agree to a run that waits for approval; for people only",
        body=schemas.GiveReason,
    ),
    wish(
        "reject",
        "Turn down a run that waits for approval; for people only",
        body=schemas.GiveReason,
    ),
)


EXPORT_MEDIA = "application/jsonl"

LEDGER_CALLS = (
    Call(
        method="get",
        path="/ledger",
        summary="Entries of the ledger, newest first",
        answers={200: schemas.EntriesAnswer},
        parameters=(
            query("before", {"type": "integer", "minimum": 1}, "The cursor `next`."),
            LIMIT,
        ),
    ),
    Call(
        method="get",
        path="/ledger/export",
        summary="The whole ledger as JSON Lines, oldest first, to verify elsewhere",
        answers={200: schemas.ExportedEntry},
        parameters=(AFTER,),
        media=EXPORT_MEDIA,
    ),
    Call(
        method="get",
        path="/ledger/verify",
        summary="Is the ledger as it was written?",
        answers={200: schemas.VerificationAnswer},
    ),
)


PEOPLE_CALLS = (
    Call(
        method="post",
        path="/reauthenticate",
        summary="Show anew who is signed in: changes ask for a fresh login",
        answers={204: None},
        body=schemas.Reauthenticate,
        errors=(400, 401, 403, 405, 413, 429, 500, 503),
    ),
)


READING_CALLS = (
    Call(
        method="get",
        path="/status",
        summary="Every database: what is pending",
        answers={200: schemas.StatusAnswer},
    ),
    Call(
        method="get",
        path="/ready",
        summary="Is nothing pending that this code requires?",
        answers={200: schemas.ReadyAnswer, 503: schemas.ReadyAnswer},
        public=True,
        errors=(400, 405),
    ),
    Call(
        method="get",
        path="/health",
        summary="Is now a good moment for a plan? Nothing is begun",
        answers={200: schemas.HealthAnswer},
        parameters=(DATABASE, TARGETS, PHASE),
    ),
    Call(
        method="get",
        path="/plan",
        summary="What would happen; nothing is executed",
        answers={200: schemas.PlanAnswer},
        parameters=(
            DATABASE,
            TARGETS,
            query(
                "mode",
                {"type": "string", "enum": list(Mode)},
                "How steps are carried out.",
            ),
            query(
                "details",
                {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "none"}]},
                "After how many steps SQL is told, as `details_next` says; or none of it.",
            ),
            PHASE,
        ),
    ),
)


def _parameter(name: str, place: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": TEXT, "description": text}


REHEARSAL_CALLS = (
    Call(
        method="get",
        path="/rehearsals",
        summary="Rehearsals, newest first, without their reports",
        answers={200: schemas.RehearsalsAnswer},
        parameters=(
            _parameter("database", "query", "Only those of one database."),
            _parameter("before", "query", "The cursor `next` of the page before."),
            LIMIT,
        ),
    ),
    Call(
        method="post",
        path="/rehearsals",
        summary="Carry out the plan with this fingerprint on a copy, or in place",
        answers={200: schemas.RehearsalAnswer, 202: schemas.RehearsalAnswer},
        body=schemas.CreateRehearsal,
        parameters=(
            _parameter(
                "Prefer", "header", "wait=30 waits for an end up to that many seconds."
            ),
        ),
        errors=(400, 401, 403, 404, 405, 409, 413, 428, 500, 503),
    ),
    Call(
        method="get",
        path="/rehearsals/{rehearsal}",
        summary="One rehearsal, with its report when it has ended",
        answers={200: schemas.RehearsalAnswer},
        parameters=(
            {
                **_parameter("rehearsal", "path", "Its id."),
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
        summary="Runs, newest first",
        answers={200: schemas.RunsAnswer},
        parameters=(
            query("database", TEXT, "Only those of one database."),
            query("before", TEXT, "The cursor `next` of the page before."),
            LIMIT,
        ),
    ),
    Call(
        method="post",
        path="/runs",
        summary="Carry out the plan with this fingerprint",
        answers={200: schemas.RunAnswer, 202: schemas.RunAnswer},
        body=schemas.CreateRun,
        parameters=(
            header(
                "Idempotency-Key",
                {"type": "string", "minLength": 1, "maxLength": 200},
                "The same key and body start one run.",
            ),
            header("Prefer", TEXT, "wait=30 waits for an end up to that many seconds."),
        ),
        errors=(400, 401, 403, 404, 405, 409, 413, 422, 428, 500, 503),
    ),
    Call(
        method="get",
        path="/runs/{run}",
        summary="One run",
        answers={200: schemas.RunAnswer},
        parameters=(RUN_ID,),
    ),
    Call(
        method="get",
        path="/runs/{run}/events",
        summary="What happened in a run, in order",
        answers={200: schemas.EventsAnswer},
        parameters=(
            RUN_ID,
            AFTER,
            query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "At most."),
        ),
    ),
    wish(
        "cancel",
        "Stop a run, in the middle of a statement as well; `force` kills it",
        body=schemas.CancelRun,
    ),
    wish(
        "hold",
        "Let a run wait before its next step",
        body=schemas.GiveReason,
    ),
    wish(
        "resume",
        "Let a run go on that is held, or look again for its opening; `force`: in spite "
        "of the signals, windows and freezes",
        body=schemas.ResumeRun,
    ),
    wish(
        "resolve",
        "Open a database again that a run left in between; for people only",
        body=schemas.Resolve,
    ),
    wish(
        "end-blockers",
        "End the sessions that are in the way of a run; for people only",
        body=schemas.GiveReason,
        answer=schemas.EndedBlockersAnswer,
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
            _response(schemas.Problem, "application/problem+json", "A problem."),
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


def _response(kind: type[schemas.Answer] | None, media: str, text: str) -> dict[str, Any]:
    content = {} if kind is None else {"content": {media: {"schema": _ref(kind)}}}
    return {
        "description": text.split("\n", 1)[0],
        **content,
        "headers": {"Migration-Route-Build": {"schema": TEXT}},
    }


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
