"""The calls of the JSON API: one table for the URLs, the parsing of requests and the
OpenAPI document."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from migration_route.access.authentication import authenticate
from migration_route.access.isolation import View
from migration_route.api import examples, requests, streaming, views
from migration_route.api.views import answer
from migration_route.presentation import schemas

TAGS = {
    "Status": "The databases of the project, and whether they are ready.",
    "Plans": "What a run would do, and whether it could start now.",
    "Runs": "Apply a plan, follow its progress and control it.",
    "Approvals": "The decisions of users on runs that await approval.",
    "Rehearsals": "Execute a plan on a copy, or in a transaction that is rolled back.",
    "Ledger": "The tamper-evident record of every action.",
    "Session": "The login of a user.",
}

_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_PREFER = {"Prefer": ({"type": "string"}, "`wait=30` waits up to 30 seconds for the end.")}
_IDEMPOTENCY_KEY = {
    "Idempotency-Key": (
        {"type": "string", "minLength": 1, "maxLength": requests.LONGEST_KEY},
        "Requests with the same key and body start one run.",
    )
}
_LAST_EVENT_ID = {
    "Last-Event-ID": (
        {"type": "integer", "minimum": 0},
        "The number of the last event received; continues an event stream.",
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the API: its URL, what it accepts, what it returns, and its description.

    `answers` maps each status to the type of the body, None without a body, or for a file
    of the type `media`; `examples` maps a status to a body. `permission` states who may
    make the call.
    """

    path: str
    view: Callable[..., HttpResponseBase | schemas.Answer]
    tag: str
    summary: str
    description: str
    permission: str
    answers: Mapping[int, type[schemas.Answer] | None]
    method: str = "get"
    query: type[requests.Query] = requests.Query
    headers: Mapping[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    body: type[schemas.Request] | None = None
    body_example: Mapping[str, Any] | None = None
    examples: Mapping[int, schemas.Answer] = field(default_factory=dict)
    public: bool = False
    media: str = "application/json"
    errors: tuple[int, ...] = (400, 401, 403, 404, 405, 409, 500, 503)

    @property
    def is_file(self) -> bool:
        """Whether the body of the answer is a file that is not text."""
        return self.media == views.EVIDENCE_MEDIA

    @property
    def url_name(self) -> str:
        return "api-" + self.path.rpartition("/")[2].strip("{}")

    @property
    def route(self) -> str:
        """The path as Django's `path()` expects it."""
        return re.sub(r"{(\w+)}", r"<str:\1>", self.path.removeprefix("/"))

    @property
    def operation_id(self) -> str:
        return f"{self.method}{re.sub('[{}]', '', self.path).replace('/', '_')}"

    @property
    def parameters(self) -> Iterator[dict[str, Any]]:
        """The parameters of the path, the query string and the headers, for OpenAPI."""
        for name in re.findall(r"{(\w+)}", self.path):
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "schema": _ID,
                "description": f"The ID of the {name}.",
            }
        for name, found in requests.query_parameters(self.query).items():
            schema = {**found}
            text = schema.pop("description")
            yield {"name": name, "in": "query", "schema": schema, "description": text}
        for name, (schema, text) in self.headers.items():
            yield {"name": name, "in": "header", "schema": schema, "description": text}

    @property
    def view_function(self) -> View:
        """The view that authenticates and parses a request, and passes to `view` the
        arguments that it names."""
        wanted = inspect.signature(self.view).parameters

        @functools.wraps(self.view)
        def parsed(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
            arguments["request"] = request
            if not self.public:
                arguments["actor"] = authenticate(request)
            arguments["query"] = requests.query_of(request, self.query)
            if self.body is not None:
                arguments["body"] = requests.body_of(request, self.body)
            found = self.view(**{name: arguments[name] for name in wanted})
            return answer(found) if isinstance(found, schemas.Answer) else found

        return parsed


def _control(
    verb: str,
    view: Callable[..., schemas.Answer],
    *,
    summary: str,
    description: str,
    permission: str,
    body_example: Mapping[str, Any],
    body: type[schemas.Request] = schemas.GiveReason,
    answer: type[schemas.Answer] = schemas.RunAnswer,
    tag: str = "Runs",
) -> Call:
    """Return a call that controls one run."""
    return Call(
        method="post",
        path=f"/runs/{{run}}/{verb}",
        view=view,
        tag=tag,
        summary=summary,
        description=description,
        permission=permission,
        body=body,
        body_example=body_example,
        answers={200: answer},
        errors=(400, 401, 403, 404, 405, 409, 413, 500, 503),
    )


CALLS: tuple[Call, ...] = (
    Call(
        path="/status",
        view=views.get_status,
        answers={200: schemas.StatusAnswer},
        tag="Status",
        summary="Get the status of every database",
        description="Returns for each database whether it is reachable, its pending and "
        "applied migrations, its active run and whether the ledger is installed. Works "
        "when no table exists yet.",
        permission="`read`",
    ),
    Call(
        path="/ready",
        view=views.get_ready,
        answers={200: schemas.ReadyAnswer, 503: schemas.ReadyAnswer},
        tag="Status",
        summary="Check that no migration is pending that this code requires",
        description="For readiness probes. Returns 200 if nothing required is pending, 503 "
        "otherwise, and no further information. A step that belongs after the deploy is "
        "not required.",
        permission="none (public)",
        public=True,
        errors=(400, 405),
    ),
    Call(
        path="/health",
        view=views.get_health,
        answers={200: schemas.HealthAnswer},
        tag="Plans",
        summary="Check the health signals for a plan; nothing is started",
        description="Returns each health signal with its state and its reason. The verdict "
        "is `pause` while a signal that is not ignored says `stop`, otherwise `go`.",
        permission="`plan`",
        query=requests.HealthQuery,
    ),
    Call(
        path="/plan",
        view=views.get_plan,
        answers={200: schemas.PlanAnswer},
        tag="Plans",
        summary="Get a plan; nothing is executed",
        description="Returns the steps to the targets with their SQL, a forecast of their "
        "locks, the findings, and the fingerprint that `POST runs` and `POST rehearsals` "
        "require. `details_next`, if not null, is the value of `details` that returns the "
        "next part of a long plan.",
        permission="`plan`",
        query=requests.PlanQuery,
        examples={200: examples.PLAN},
    ),
    Call(
        path="/runs",
        view=views.get_runs,
        answers={200: schemas.RunsAnswer},
        tag="Runs",
        summary="List runs, newest first",
        description="Returns one page of runs. `next` is the value of `before` for the "
        "next page, or null.",
        permission="`read`",
        query=requests.PageQuery,
        examples={200: examples.RUNS},
    ),
    Call(
        method="post",
        path="/runs",
        view=views.post_runs,
        tag="Runs",
        summary="Apply the plan with this fingerprint",
        description="Starts a run of the plan that was read with `GET plan`; `targets` and "
        "`phase` are those of that plan. The request is refused if the plan has changed "
        "since. If the plan needs approval, the run waits as `awaiting_approval`. Returns "
        "202 with the run and its address in `Location`, or 200 if the run ends within "
        "`Prefer: wait`.",
        permission="`apply`, and `reverse` or `fake` if the plan needs it",
        headers={**_IDEMPOTENCY_KEY, **_PREFER},
        body=schemas.CreateRun,
        body_example=examples.CREATE_RUN,
        answers={200: schemas.RunAnswer, 202: schemas.RunAnswer},
        examples={200: examples.SUCCEEDED_RUN, 202: examples.QUEUED_RUN},
        errors=(400, 401, 403, 404, 405, 409, 413, 422, 428, 500, 503),
    ),
    Call(
        path="/runs/{run}",
        view=views.get_run,
        answers={200: schemas.RunAnswer},
        tag="Runs",
        summary="Get a run",
        description="Returns the state of the run, of each of its steps, and what it waits "
        "for.",
        permission="`read`",
        examples={200: examples.SUCCEEDED_RUN},
    ),
    Call(
        path="/runs/{run}/events",
        view=views.get_events,
        answers={200: schemas.EventsAnswer},
        tag="Runs",
        summary="List the events of a run, in order",
        description="`last` is the value of `after` for the next request; `ended` is true "
        "when no more events will follow. With `Accept: text/event-stream`, returns "
        "server-sent events as they occur, in bounded streams that `Last-Event-ID` "
        "resumes.",
        permission="`read`",
        query=requests.EventsQuery,
        headers=_LAST_EVENT_ID,
    ),
    Call(
        path="/runs/{run}/evidence",
        view=views.get_evidence,
        answers={200: None},
        tag="Ledger",
        summary="Download the evidence of a run as one signed file",
        description="A zip file of JSON: the run, its plan, approvals, rehearsals and "
        "events, and its entries of the ledger with their hashes. `migration-route ledger "
        "verify --file` verifies it offline. Only what is recorded is included; of a run "
        "that is still active, what is recorded so far.",
        permission="`read`",
        media=views.EVIDENCE_MEDIA,
    ),
    _control(
        "cancel",
        views.post_cancel,
        summary="Cancel a run, even in the middle of a statement; `force` kills its "
        "processes",
        description="A run that has not started is `cancelled`, any other `cancelling`. "
        "It ends as `cancelled` if the database rolled the step back, and as `partial` if "
        "the step stopped partway. A token cannot use `force`.",
        permission="`operate`, or none for the requester of a run that awaits approval; "
        "with `force`, `force`",
        body=schemas.CancelRun,
        body_example={"reason": "Wrong release"},
    ),
    _control(
        "pause",
        views.post_pause,
        summary="Pause a run before its next step",
        description="The current step finishes first. `control_request` is `pause` until "
        "the run is `paused`.",
        permission="`operate`",
        body_example={"reason": "Traffic peak"},
    ),
    _control(
        "resume",
        views.post_resume,
        summary="Resume a paused run, or check again whether a waiting run can start; "
        "`force` ignores health signals, windows and freezes",
        description="Also withdraws a request to pause that has not taken effect. A token "
        "cannot use `force`.",
        permission="`operate`; with `force`, `force`",
        body=schemas.ResumeRun,
        body_example={"reason": "Traffic is normal again"},
    ),
    _control(
        "resolve",
        views.post_resolve,
        summary="Resolve a partially applied run and unlock its database (users only)",
        description="`continue` runs the rest of the step in a new run, `applied` and "
        "`reverted` correct the record after a check of the database, and `as_is` leaves "
        "the record unchanged. Until the run is resolved, every other run on the database "
        "is refused with `needs_resolution`.",
        permission="`resolve`",
        body=schemas.Resolve,
        body_example={"reason": "The table was missing", "how": "continue"},
    ),
    _control(
        "terminate-blockers",
        views.post_terminate_blockers,
        summary="Terminate the sessions that block a run (users only)",
        description="Terminates the sessions that the run shows as blockers, if they still "
        "block it. The setting `allow_terminate_blockers` of the database must allow it, "
        "and a reason is required.",
        permission="`force`",
        body_example={"reason": "An abandoned report"},
        answer=schemas.TerminatedBlockersAnswer,
    ),
    _control(
        "approve",
        views.post_approve,
        tag="Approvals",
        summary="Approve a run that awaits approval (users only)",
        description="The last required approval starts the run.",
        permission="`approve`, or the permission that the rule names",
        body_example={"reason": "Reviewed with the team"},
    ),
    _control(
        "reject",
        views.post_reject,
        tag="Approvals",
        summary="Reject a run that awaits approval (users only)",
        description="The run ends without having started.",
        permission="`approve`, or the permission that the rule names",
        body_example={"reason": "Split the backfill into batches first"},
    ),
    Call(
        path="/rehearsals",
        view=views.get_rehearsals,
        answers={200: schemas.RehearsalsAnswer},
        tag="Rehearsals",
        summary="List rehearsals, newest first, without their reports",
        description="Returns one page of rehearsals. `next` is the value of `before` for "
        "the next page, or null.",
        permission="`read`",
        query=requests.PageQuery,
    ),
    Call(
        method="post",
        path="/rehearsals",
        view=views.post_rehearsals,
        tag="Rehearsals",
        summary="Rehearse the plan with this fingerprint on a copy, or in place",
        description="The copy has the schema, or with `kind` `data` also every row. With "
        "`round_trip`, every step is reversed afterwards and the schema is compared. With "
        "`in_place`, the plan is executed on the database itself, in one transaction that "
        "is rolled back. Returns 202 with the rehearsal and its address in `Location`, or "
        "200 if the rehearsal ends within `Prefer: wait`.",
        permission="`rehearse`",
        headers=_PREFER,
        body=schemas.CreateRehearsal,
        body_example=examples.CREATE_REHEARSAL,
        answers={200: schemas.RehearsalAnswer, 202: schemas.RehearsalAnswer},
        errors=(400, 401, 403, 404, 405, 409, 413, 428, 500, 503),
    ),
    Call(
        path="/rehearsals/{rehearsal}",
        view=views.get_rehearsal,
        answers={200: schemas.RehearsalAnswer},
        tag="Rehearsals",
        summary="Get a rehearsal, with its report when it has ended",
        description="The report has the duration, the locks and the row count of each "
        "statement, and what the rehearsal could not cover.",
        permission="`read`",
    ),
    Call(
        path="/ledger",
        view=views.get_ledger,
        answers={200: schemas.EntriesAnswer},
        tag="Ledger",
        summary="List the entries of the ledger, newest first",
        description="Returns one page of entries. `next` is the value of `before` for the "
        "next page, or null.",
        permission="`read`",
        query=requests.EntriesQuery,
    ),
    Call(
        path="/ledger/export",
        view=streaming.get_export,
        answers={200: schemas.ExportedEntry},
        tag="Ledger",
        summary="Export the whole ledger as JSON Lines, oldest first",
        description="Each line is an entry as it is stored. The whole file can be verified "
        "without this package. A response that ends early is incomplete: an error occurred "
        "while the ledger was read.",
        permission="`read`, on every database",
        query=requests.ExportQuery,
        media=streaming.EXPORT_MEDIA,
    ),
    Call(
        path="/ledger/verify",
        view=views.get_verification,
        answers={200: schemas.VerificationAnswer},
        tag="Ledger",
        summary="Verify the integrity of the ledger",
        description="Checks every entry from the first, and every event that an entry "
        "covers. Returns the number of intact entries, and the first broken one. With "
        "`head`, also checks that this entry still exists, so that entries that were cut "
        "off at the end are found.",
        permission="`read`",
        query=requests.VerifyQuery,
    ),
    Call(
        method="post",
        path="/reauthenticate",
        view=views.post_reauthenticate,
        tag="Session",
        summary="Renew the login by password; changes require a recent login",
        description="For users with a session. With the correct password, the session gets "
        "a new cookie and its login counts as recent.",
        permission="a signed-in user",
        body=schemas.Reauthenticate,
        answers={204: None},
        errors=(400, 401, 403, 405, 413, 429, 500, 503),
    ),
)
