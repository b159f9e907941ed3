"""Tests of the API's calls, errors and OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any, get_type_hints

import msgspec
import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory

from migration_route.api import requests, urls
from migration_route.api.endpoints import CALLS
from migration_route.api.openapi import document
from migration_route.api.requests import LARGEST_BODY, wanted_wait
from migration_route.api.views import answer, endpoint
from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import EventKind, RunState
from migration_route.ledger import runs
from migration_route.ledger.run_log import RunLog
from migration_route.models import Entry, Event
from migration_route.planning import sources
from migration_route.presentation import schemas
from tests.factories import a_new_run
from tests.test_errors import EVERY

pytestmark = pytest.mark.usefixtures("database")

API = "/migrations/api/v1/"
UNKNOWN = "0" * 32


def call(path: str, who: str = "reader", method: str = "get", **words):
    """Call the API with the machine token."""
    headers = {"Authorization": f"Bearer {who}-secret", **words.pop("headers", {})}
    if "body" in words:
        body = words.pop("body")
        words["data"] = body if isinstance(body, str | bytes) else json.dumps(body)
        words["content_type"] = "application/json"
    return getattr(Client(raise_request_exception=False), method)(
        API + path, headers=headers, **words
    )


def a_run(state: RunState = RunState.QUEUED):
    """Return a run in this state, with three events."""
    run, _ = runs.create_run(a_new_run())
    with using_private_connection("default"):
        journal = RunLog(run)
        for word in "abc":
            journal.event(EventKind.OUTPUT, text=word, facts={"stream": "stdout"})
        assert journal.flush()
    if state is not RunState.QUEUED:
        runs.move(run.id, to=state, expected={RunState.QUEUED})
    return run.id


# --- common to all URLs ----------------------------------------------------------------

GETS = [
    "status",
    "ready",
    "plan",
    "runs",
    "ledger",
    "ledger/verify",
    "ledger/export",
    "openapi.json",
]
POSTS = [f"runs/{UNKNOWN}/cancel", f"runs/{UNKNOWN}/resolve"]
NEVER = ["post", "put", "patch", "delete"]


def is_problem(response, status: int, code: str) -> Any:
    """Check that this is a problem as in RFC 9457, and return it."""
    assert (response.status_code, response.json().get("code")) == (status, code)
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:migration-route:{code}"
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest.mark.parametrize("path", [*GETS, *POSTS, "runs/x", "nowhere", ""])
def test_every_answer_names_the_build_and_is_not_kept(path):
    """Also an error, an unknown URL, and a request without a token."""
    response = Client().get(API + path)
    assert response["Migration-Route-Build"] == sources.build()
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize("method", NEVER)
def test_a_method_that_means_nothing_here_is_405(path, method):
    """The response lists the allowed methods."""
    if (path, method) == ("runs", "post"):
        return
    response = call(path, method=method)
    is_problem(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_what_changes_something_is_posted(path, method):
    """A link cannot cancel a run."""
    response = call(path, method=method)
    is_problem(response, 405, "method_not_allowed")
    assert response["Allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("path", GETS)
def test_head_is_get_without_a_body_and_options_names_the_methods(path):
    """As in HTTP."""
    assert call(path, "planner", "head").content == b""
    response = call(path, method="options")
    assert response.status_code == 204
    assert {"GET", "HEAD", "OPTIONS"} <= set(response["Allow"].split(", "))


@pytest.mark.parametrize("path", [*GETS, f"runs/{UNKNOWN}", f"runs/{UNKNOWN}/events"])
def test_an_unknown_query_parameter_is_an_error(path):
    """A typing error must not be ignored, and a secret must not be in a URL."""
    problem = is_problem(call(f"{path}?tokn=x", "planner"), 400, "invalid_request")
    assert "tokn" in problem["detail"]


@pytest.mark.parametrize("path", [p for p in GETS if p not in {"ready", "openapi.json"}])
def test_nothing_but_readiness_and_the_document_is_public(path):
    """A request without a token gets no information."""
    response = Client().get(API + path)
    is_problem(response, 401, "unauthenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["nowhere", "", "runs/a/b/c", "status/", "RUNS"])
def test_an_address_that_is_none_is_a_problem_too(path):
    """Not the error page of the project."""
    is_problem(call(path), 404, "unknown_address")


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_has_its_shape(kind):
    """Code, status, title, detail, hint, and facts, with the run as its own field."""

    def fail(request):
        raise kind("It is so.", hint="Do this.", run="42", step="a.b")

    response = endpoint({"GET": fail})(RequestFactory().get("/"))
    assert isinstance(response, HttpResponse)
    problem = json.loads(response.content)
    assert response.status_code == problem["status"] == kind.http_status
    assert response["Content-Type"] == "application/problem+json"
    assert (problem["code"], problem["detail"], problem["hint"]) == (
        kind.code,
        "It is so.",
        "Do this.",
    )
    assert (problem["run"], problem["facts"]) == ("42", {"step": "a.b"})
    assert response["Migration-Route-Build"]
    assert response.has_header("WWW-Authenticate") is (kind.http_status == 401)


def test_what_nobody_foresaw_is_a_problem_without_its_words(caplog):
    """The traceback is in the log, not in the response."""

    def fail(request):
        raise ValueError("the password is hunter2")

    response = endpoint({"GET": fail})(RequestFactory().get("/"))
    assert isinstance(response, HttpResponse)
    assert json.loads(response.content)["code"] == "internal"
    assert b"hunter2" not in response.content
    assert "hunter2" in caplog.text


def test_no_address_stands_in_the_transaction_of_its_request():
    """Neither `ATOMIC_REQUESTS` nor a login or CSRF page of the project takes effect
    first."""

    def look(request):
        return answer(schemas.ReadyAnswer(ready=True))

    view: Any = endpoint({"GET": look})  # the decorators set its attributes
    assert view._non_atomic_requests == {"default", "other"}
    assert view.csrf_exempt
    assert not view.login_required
    assert transaction.get_connection().in_atomic_block is False


# --- bodies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        b"[]",
        b'"x"',
        b"null",
        b"{",
        b'{"a": 1}',
        b'{"targets": "x"}',
        b'{"reason": 5}',
        b'{"reason": "\\u0000"}',
        b'{"reason": "\\ud800"}',
        b"\xff\xfe",
        b'{"fake": true, "fake_initial": true}',
        b"[" * 5000,
    ],
)
def test_a_body_that_does_not_fit_is_400(body):
    """Whatever its bytes."""
    is_problem(call("runs", "deployer", "post", body=body), 400, "invalid_request")


def test_a_body_that_is_too_large_is_413():
    """It is not read at all."""
    body = {"reason": "x" * LARGEST_BODY}
    is_problem(call("runs", "deployer", "post", body=body), 413, "invalid_request")


def test_a_body_that_is_as_large_as_may_be_is_read():
    """The limit is inclusive."""
    body = json.dumps({}) + " " * (LARGEST_BODY - 2)
    is_problem(call("runs", "deployer", "post", body=body), 428, "fingerprint_required")


def test_no_body_is_an_empty_one():
    """Missing fields are reported by name."""
    is_problem(call("runs", "deployer", "post", body=b""), 428, "fingerprint_required")


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_an_idempotency_key_has_a_length(key):
    """An empty key is not accepted."""
    response = call(
        "runs",
        "deployer",
        "post",
        body={"fingerprint": "x"},
        headers={"Idempotency-Key": key},
    )
    is_problem(response, 400, "invalid_request")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=30", 30),
        ("respond-async, wait=10", 10),
        ('Wait = "5"', 5),
        ("wait=0.5", 0.5),
        ("wait=-5", 0),
        ("wait=soon", 0),
        ("wait=inf", 0),
        ("wait=nan", 0),
        ("wait", 0),
        ("", 0),
    ],
)
def test_how_long_to_wait_is_read_from_prefer(prefer, seconds):
    """An unknown preference is ignored (RFC 7240, 2)."""
    request = RequestFactory().get("/", headers={"Prefer": prefer})
    assert wanted_wait(request) == seconds


# --- individual calls ------------------------------------------------------------------


def test_status_answers_for_every_database():
    """In the shape of the contract."""
    found = call("status").json()
    assert [database["database"] for database in found["databases"]] == ["default", "other"]
    assert found["databases"][0]["ledger_installed"] is True
    assert found["build"] == sources.build()


def test_a_plan_answers_with_everything_that_the_contract_names():
    """Also where there is nothing to do."""
    found = call("plan", "planner").json()
    assert (found["database"], found["direction"], found["steps"]) == (
        "default",
        "none",
        [],
    )
    assert set(found) >= {"vendor", "fingerprint", "transactional_ddl", "findings"}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("database=nowhere", 404, "unknown_database"),
        ("target=nowhere", 404, "unknown_target"),
        ("target=testapp.0009", 404, "unknown_target"),
        ("target=migration_route.zero", 400, "invalid_request"),
        ("mode=pretend", 400, "invalid_request"),
        ("database=", 404, "unknown_database"),
        ("database=%00", 400, "invalid_request"),
        ("target=%00", 400, "invalid_request"),
        ("target=", 404, "unknown_target"),
    ],
)
def test_a_plan_to_nowhere_is_told(query, status, code):
    """Each with its own code."""
    is_problem(call(f"plan?{query}", "planner"), status, code)


def test_a_plan_takes_several_targets():
    """`target` may repeat."""
    found = call("plan?target=testapp&target=auth&mode=fake", "planner").json()
    assert (found["targets"], found["mode"]) == (["testapp", "auth"], "fake")


def test_a_plan_tells_as_much_as_is_asked_for(history):
    """No SQL at all, that of all steps, or that of the steps after a number."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")

    def told(details):
        found = call(f"plan?target=testapp{details}", "planner").json()
        return found["details_next"], [
            step["operations"][0]["sql"] is not None for step in found["steps"]
        ]

    assert told("") == (None, [True, True])
    assert told("&details=1") == (None, [False, True])
    assert told("&details=none") == (None, [False, False])
    is_problem(call("plan?details=all", "planner"), 400, "invalid_request")


def test_reading_a_plan_needs_its_right():
    """The right to read runs does not include plans."""
    is_problem(call("plan"), 403, "forbidden")


def test_runs_come_by_page():
    """Newest first, with a cursor to the next page."""
    ids = [a_run(RunState.FAILED) for _ in range(3)]
    first = call("runs?limit=2").json()
    assert [run["id"] for run in first["runs"]] == ids[:0:-1]
    second = call(f"runs?limit=2&before={first['next']}").json()
    assert [run["id"] for run in second["runs"]] == ids[:1]
    assert second["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "limit=1.5",
        "limit=",
        "limit=%D9%A1",
        "limit=99999999999999999999",
        "before=x",
        "before=",
    ],
)
def test_a_page_that_is_none_is_400(query):
    """An invalid number is not replaced."""
    is_problem(call(f"runs?{query}"), 400, "invalid_request")


def test_one_run_is_shown_in_the_shape_of_the_contract():
    """With all of its keys."""
    found = call(f"runs/{a_run()}").json()
    assert set(found) >= {
        "id",
        "database",
        "state",
        "outcome",
        "fingerprint",
        "requested_by",
        "reason",
        "waiting",
        "steps",
        "created_at",
        "started_at",
        "finished_at",
        "build",
    }
    assert found["requested_by"] == {"kind": "token", "name": "deployer"}
    assert set(found["steps"][0]) >= {"app", "name", "state", "duration_ms", "error"}
    assert (found["state"], found["ended"], found["last_event"]) == ("queued", False, 3)


@pytest.mark.parametrize("path", ["runs/{}", "runs/{}/events"])
def test_a_run_that_is_not_there_is_404(path):
    """An invalid id is 400."""
    is_problem(call(path.format(UNKNOWN)), 404, "unknown_run")
    is_problem(call(path.format("xyz")), 400, "invalid_request")


def test_events_come_after_a_number():
    """In order, after that number; `ended` when no more will come."""
    run = a_run()
    found = call(f"runs/{run}/events?after=1&limit=1").json()
    assert [(event["number"], event["text"]) for event in found["events"]] == [(2, "b")]
    assert (found["last"], found["ended"]) == (2, False)
    runs.move(run, to=RunState.FAILED, expected={RunState.QUEUED})
    assert not call(f"runs/{run}/events?after=1&limit=1").json()["ended"]
    found = call(f"runs/{run}/events?after=1").json()
    assert (found["last"], found["ended"]) == (3, True)


def test_events_come_as_a_stream():
    """Each with its number as the id, and an end."""
    run = a_run(RunState.FAILED)
    response = call(f"runs/{run}/events", headers={"Accept": "text/event-stream"})
    text = response.getvalue().decode()
    assert response["Content-Type"] == "text/event-stream"
    assert response["Migration-Route-Build"]
    blocks = text.strip().split("\n\n")
    assert blocks[0] == "retry: 1000"
    assert [block.split("\n")[0] for block in blocks[1:4]] == ["id: 1", "id: 2", "id: 3"]
    assert json.loads(blocks[2].split("data: ")[1])["text"] == "b"
    assert blocks[-1] == "event: end\ndata: {}"


def test_a_stream_is_resumed_without_a_gap():
    """`Last-Event-ID` is the number of the last event received."""
    run = a_run(RunState.FAILED)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "2"}
    text = call(f"runs/{run}/events?after=1", headers=headers).getvalue().decode()
    assert "id: 3" in text
    assert "id: 2" not in text


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 30])
def test_a_number_that_is_none_cannot_be_resumed_from(number):
    """A proxy may have changed it."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": number}
    is_problem(call(f"runs/{a_run()}/events", headers=headers), 400, "invalid_request")


def test_a_stream_hangs_up_after_a_while(settings):
    """An open stream would occupy a worker."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "MAX_REQUEST_WAIT": "200ms"}
    response = call(f"runs/{a_run()}/events", headers={"Accept": "text/event-stream"})
    text = response.getvalue().decode()
    assert "id: 3" in text
    assert "event: end" not in text


def test_a_run_is_cancelled_by_who_may():
    """A user with only the right to read may not; an ended run cannot be cancelled."""
    run = a_run()
    is_problem(call(f"runs/{run}/cancel", "reader", "post", body={}), 403, "forbidden")
    found = call(f"runs/{run}/cancel", "deployer", "post", body={"reason": "enough"})
    assert (found.status_code, found.json()["state"]) == (200, "cancelled")
    again = call(f"runs/{run}/cancel", "deployer", "post", body={})
    problem = is_problem(again, 409, "invalid_state")
    assert (problem["run"], problem["facts"]) == (run, {"state": "cancelled"})


def test_no_token_resolves_a_run():
    """Only users may."""
    run = a_run(RunState.PARTIAL)
    response = call(f"runs/{run}/resolve", "deployer", "post", body={"reason": "x"})
    is_problem(response, 403, "forbidden")


def test_a_run_is_resolved_in_one_of_four_ways():
    """Anything else is an invalid request, and changes nothing."""
    run = a_run(RunState.PARTIAL)
    body = {"reason": "x", "how": "somehow"}
    response = call(f"runs/{run}/resolve", "deployer", "post", body=body)
    problem = is_problem(response, 400, "invalid_request")
    assert "somehow" in problem["detail"]


def test_the_ledger_comes_by_page_and_is_verified():
    """Newest first; a changed entry is reported with its position."""
    run = a_run(RunState.FAILED)
    first = call("ledger?limit=1").json()
    assert (first["entries"][0]["run"], first["next"]) == (run, 2)
    second = call("ledger?before=2").json()
    assert [entry["sequence"] for entry in second["entries"]] == [1]
    assert call("ledger/verify").json() == {
        "intact": True,
        "entries": 2,
        "broken": None,
        "message": "",
        "ledger_head": f"2:{Entry.objects.get(sequence=2).digest}",
    }
    Entry.objects.filter(sequence=2).update(actor_name="nobody")
    found = call("ledger/verify").json()
    assert (found["intact"], found["entries"], found["broken"]) == (False, 1, 2)


def test_a_tampered_ledger_can_still_be_read():
    """The damage must remain visible."""
    run = a_run(RunState.FAILED)
    Entry.objects.filter(sequence=2).update(action="no such word", facts="not JSON")
    Event.objects.filter(run=run, number=1).update(kind="no such word")
    assert call("ledger").status_code == 200
    assert call(f"runs/{run}/events").status_code == 200
    assert call("ledger/verify").json()["intact"] is False


def test_readiness_says_no_more_than_it_must():
    """One word, for any client."""
    response = Client().get(API + "ready")
    assert (response.status_code, response.json()) == (200, {"ready": True})


def test_what_is_pending_is_not_ready(history):
    """503, so that no traffic arrives."""
    history.table("0001_a", "made_a")
    response = Client().get(API + "ready")
    assert (response.status_code, response.json()) == (503, {"ready": False})


# --- the document -------------------------------------------------------------------

DOCUMENT = json.loads(document(API.rstrip("/")))
UNLISTED = {"openapi.json", "", "<path:rest>"}  # except the document itself


def test_the_document_is_served_for_this_place():
    """Its server is the URL where the project mounts this package."""
    found = Client().get(API + "openapi.json").json()
    assert found["servers"] == [{"url": API.rstrip("/")}]
    assert found["openapi"].startswith("3.1")
    assert found["info"]["version"]


def test_every_address_is_in_the_document_and_no_other():
    """Every available call is listed, with each of its methods."""
    served = {}
    for pattern in urls.urlpatterns:
        route = str(pattern.pattern)
        if route not in UNLISTED:
            address = re.sub("<str:.*?>", UNKNOWN, route)
            response = Client().options(API + address)
            methods = set(response["Allow"].lower().split(", ")) - {"head", "options"}
            served["/" + re.sub("<str:(.*?)>", r"{\1}", route)] = methods
    told = {path: set(calls) for path, calls in DOCUMENT["paths"].items()}
    assert told == served


def test_every_reference_in_the_document_leads_somewhere():
    """And every schema is used."""
    text = json.dumps(DOCUMENT)
    used = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert used == set(DOCUMENT["components"]["schemas"])


def calls():
    """Yield every call of the document."""
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


@pytest.mark.parametrize(
    ("path", "method", "operation"), calls(), ids=lambda v: str(v)[:30]
)
def test_every_call_is_told_as_openapi_wants_it(path, method, operation):
    """Summary, responses, errors, and each part of its path as a parameter."""
    assert operation["summary"]
    responses = operation["responses"]
    assert any(status.startswith("2") for status in responses)
    for status, response in responses.items():
        assert 200 <= int(status) < 600
        assert response["description"]
        assert "Migration-Route-Build" in response["headers"]
        if status == "204":
            assert "content" not in response
            continue
        ((media, content),) = response["content"].items()
        if media == "application/zip":
            assert content == {}
            continue
        assert media in {
            "application/json",
            "application/jsonl",
            "application/problem+json",
        }
        assert set(content["schema"]) == {"$ref"}
    in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
    assert in_path == set(re.findall(r"{(\w+)}", path))
    assert all({"name", "in", "schema"} <= set(p) for p in operation["parameters"])
    assert ("requestBody" in operation) is (method == "post")


def test_operations_have_names_of_their_own():
    """Client generators derive function names from them."""
    names = [operation["operationId"] for _, _, operation in calls()]
    assert len(set(names)) == len(names)


def test_every_call_has_a_tag_of_the_document_and_a_description():
    """The tags group the calls; each tag is described and used."""
    described = {tag["name"] for tag in DOCUMENT["tags"] if tag["description"]}
    used = set()
    for path, method, operation in calls():
        (tag,) = operation["tags"]
        used.add(tag)
        text, _, permission = operation["description"].partition("\n\nPermission: ")
        assert text, (method, path)
        assert permission, (method, path)
    assert used == described


def examples():
    """Yield the type and the value of every example of the document."""
    shared = DOCUMENT["components"]["examples"]
    for _, _, operation in calls():
        for message in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in filter(None, message.get("content", {}).values()):
                kind = getattr(schemas, content["schema"]["$ref"].rpartition("/")[2])
                if "example" in content:
                    yield kind, content["example"]
                for example in content.get("examples", {}).values():
                    yield kind, shared[example["$ref"].rpartition("/")[2]]["value"]


def test_every_example_is_of_its_type():
    """So are those of the plan, of runs, of their request and of each error."""
    found = set()
    for kind, example in examples():
        assert msgspec.convert(example, kind)
        found.add(kind)
    assert found >= {
        schemas.CreateRun,
        schemas.PlanAnswer,
        schemas.Problem,
        schemas.RunAnswer,
        schemas.RunsAnswer,
    }


def test_every_error_has_an_example():
    """With the status of the response."""
    shared = DOCUMENT["components"]["examples"]
    for _, _, operation in calls():
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/problem+json")
            for example in content["examples"].values() if content else ():
                name = example["$ref"].rpartition("/")[2]
                assert shared[name]["value"]["status"] == int(status)


@pytest.mark.parametrize("entry", CALLS, ids=lambda entry: entry.operation_id)
def test_a_view_takes_what_the_table_parses(entry):
    """The annotations of a view are the types of its row."""
    hints = get_type_hints(entry.view)
    assert hints.get("body") == entry.body
    assert hints.get("query", requests.Query) == entry.query
    assert ("actor" in hints) is not entry.public
