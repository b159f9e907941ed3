"""Tests that invalid values are refused with 400 or 404, on every database.

A table lists the values that have occurred; a second test sends every hostile value in
every parameter and body field that `openapi.json` lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from migration_route.api.openapi import document
from migration_route.core.enums import RunState
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger import runs
from migration_route.models import Entry, Rehearsal, Run
from migration_route.planning.plan import PlanRequest
from migration_route.services.plans import plain_plan
from tests.access.test_sessions import user
from tests.factories import a_new_run

pytestmark = pytest.mark.usefixtures("database")

API = "/migrations/api/v1"
PAGES = "/migrations"
UNKNOWN = "0" * 32
TOO_LARGE = str(2**63)
WELL_FORMED = f"{'a' * 12}-{'b' * 8}-{'c' * 64}"

EXTREMES = [
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "0999-06-01T00:00:00Z",
    "9999-12-31T23:59:59-12:00",
    "9999-12-31T23:59:59Z",
    "10000-01-01T00:00:00Z",
    "2126-01-01T00:00:00Z",
    "2026-12-01T02:00:00+24:00",
    "2026-12-01T02:00:00",
    "2026-02-30T02:00:00Z",
    "soon",
    1764547200,
    1e300,
]
"""Invalid times: beyond the calendar in UTC, more than a year ahead, or not a time."""

MALFORMED = [
    "abc",
    "a-b",
    "a-b-c-d",
    "--",
    "a--c",
    " a-b-c",
    "a-b-c\n",
    "a-b-\u00fc",
    WELL_FORMED.replace("-", "_"),
    "x" * 201,
    "a-b-\x00",
]
"""Fingerprints that do not have the three parts CODE-PLACE-PLAN."""

HOSTILE = [
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "x" * 5000,
    "\U0001f680" * 300,
    "-1",
    "0",
    "1.5",
    "1e3",
    "NaN",
    "\u0663",
    TOO_LARGE,
    "9" * 30,
    "9" * 5000,
    "null",
    "%00",
    "' OR 1=1 --",
]
"""Values that are sent for every parameter and field."""


@pytest.fixture
def person(settings: Any) -> Client:
    """A user with every right, whose login is fresh."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "REAUTHENTICATION": None}
    client = Client(raise_request_exception=False)
    client.force_login(user(is_superuser=True))
    return client


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    """Send a call; a body that is not yet text is encoded as JSON."""
    words: dict[str, Any] = {}
    if body is not None:
        text = body if isinstance(body, str) else json.dumps(body)
        words = {"data": text, "content_type": "application/json"}
    return getattr(client, method)(API + path, **words)


def expect_invalid(response: Any, what: object) -> None:
    """Check that this is the problem `invalid_request`, with a reason."""
    found = (response.status_code, response.json().get("code"))
    assert found == (400, "invalid_request"), (what, found, response.json())
    assert response.json()["detail"], what


# --- fingerprints and times -----------------------------------------------------------


@pytest.mark.parametrize("path", ["/runs", "/rehearsals"])
def test_a_malformed_fingerprint_is_an_invalid_request(history, person, path):
    """It cannot match any plan; a well-formed one belongs to another plan."""
    history.write("0001_first")
    for fingerprint in MALFORMED:
        body = {"fingerprint": fingerprint}
        expect_invalid(send(person, "post", path, body), fingerprint)
    other = send(person, "post", path, {"fingerprint": WELL_FORMED})
    assert other.status_code == 409
    assert other.json()["code"] in {"stale_code", "plan_changed"}
    assert not Run.objects.exists()
    assert not Rehearsal.objects.exists()


def test_a_missing_fingerprint_is_still_required(history, person):
    """A missing fingerprint has another code than a malformed one."""
    history.write("0001_first")
    for body in ({}, {"fingerprint": ""}):
        missing = send(person, "post", "/runs", body)
        assert (missing.status_code, missing.json()["code"]) == (
            428,
            "fingerprint_required",
        )


@pytest.mark.parametrize("extra", [{}, {"wait_for_window": False}])
def test_a_time_that_is_out_of_range_is_an_invalid_request(history, person, extra):
    """In JSON and in the form, before anything is recorded."""
    history.write("0001_first")
    right = plain_plan(PlanRequest()).fingerprint
    for at in EXTREMES:
        body = {"fingerprint": right, "at": at, **extra}
        expect_invalid(send(person, "post", "/runs", body), at)
        if at == "2026-12-01T02:00:00":
            continue  # the form uses the time zone of the site
        page = person.post(f"{PAGES}/apply/", {"fingerprint": right, "at": str(at)})
        assert page.status_code == 400, (at, page.content)
    assert not Run.objects.exists()


# --- the table --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call, and the status of its response."""

    path: str
    status: int = 400
    method: str = "get"
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


TABLE = [
    *(Case(path=f"/ledger?before={n}") for n in ("0", "-1", TOO_LARGE, "x", "1.0", "")),
    *(Case(path=f"/ledger?limit={n}") for n in ("0", "201", "-5", TOO_LARGE, "two")),
    *(Case(path=f"/ledger/export?after={n}") for n in ("-1", TOO_LARGE, "%00")),
    *(Case(path=f"/runs?limit={n}") for n in ("0", "201", TOO_LARGE, "%00")),
    *(Case(path=f"/runs?before={n}") for n in ("1", "x" * 32, "%00", "x" * 5000)),
    *(Case(path=f"/rehearsals?before={n}") for n in ("1", "%00", "x" * 5000)),
    *(Case(path=f"/rehearsals?limit={n}") for n in ("0", "201", TOO_LARGE)),
    *(Case(path=f"/runs/RUN/events?after={n}") for n in ("-1", TOO_LARGE, "x", "")),
    *(Case(path=f"/runs/RUN/events?limit={n}") for n in ("0", "501", TOO_LARGE)),
    *(Case(path=f"/plan?details={n}") for n in ("-1", TOO_LARGE, "all", "100001")),
    *(Case(path=f"/plan?mode={n}") for n in ("", "APPLY", "apply%00", "x" * 5000)),
    *(Case(path=f"/plan?phase={n}") for n in ("", "before", "any%00")),
    *(Case(path=f"/health?phase={n}") for n in ("", "before")),
    Case(path="/plan?database=%00", status=400),
    Case(path="/plan?target=%00", status=400),
    Case(path="/plan?target=testapp.%00", status=400),
    Case(path="/plan?target=" + "x" * 5000, status=400),
    Case(path="/plan?" + "&".join(["target=testapp"] * 101), status=400),
    Case(path="/plan?database=" + "x" * 5000, status=400),
    Case(path="/runs?database=nowhere", status=404),
    Case(path="/runs/" + "x" * 5000),
    Case(path="/runs/%00"),
    Case(path="/runs/" + "\u0661" * 32),
    Case(path="/rehearsals/%00"),
    *(
        Case(path="/runs/RUN/events", headers=(("Last-Event-ID", text),))
        for text in (TOO_LARGE, "-1", "x")
    ),
    *(
        Case(path="/runs", method="post", body={**words, "fingerprint": WELL_FORMED})
        for words in (
            {"database": "\x00"},
            {"database": ""},
            {"database": "x" * 201},
            {"targets": ["\x00"]},
            {"targets": [""]},
            {"targets": ["testapp"] * 101},
            {"reason": "a\x00"},
            {"reason": "x" * 2001},
            {"reason": "\ud800"},
            {"reason": "x\udc00y"},
            {"build": "x" * 201},
            {"build": "\x00"},
            {"phase": "later"},
            {"fake": "yes"},
            {"fake": 1},
            {"rebuild_invalid_indexes": None},
        )
    ),
    Case(
        path="/runs",
        method="post",
        body={"fingerprint": WELL_FORMED},
        headers=(("Idempotency-Key", "x" * 201),),
    ),
    Case(path="/rehearsals", method="post", body={"kind": "everything"}),
    Case(path="/rehearsals", method="post", body={"round_trip": 2**70}),
    Case(path="/runs/RUN/resolve", method="post", body={"how": "later"}),
    Case(path="/runs/RUN/cancel", method="post", body={"force": "1"}),
    Case(path="/runs/RUN/cancel", method="post", body={"reason": 2**70}),
]


def test_a_value_that_is_out_of_range_is_refused(history, person):
    """The status is a client error, and nothing changes."""
    history.write("0001_first")
    run, _ = runs.create_run(a_new_run(database="other"))
    for case in TABLE:
        headers = dict(case.headers)
        if "Last-Event-ID" in headers:
            headers["Accept"] = "text/event-stream"
        words: dict[str, Any] = {"headers": headers}
        if case.body is not None:
            words |= {"data": json.dumps(case.body), "content_type": "application/json"}
        address = API + case.path.replace("RUN", run.id)
        response = getattr(person, case.method)(address, **words)
        if case.status == 400:
            expect_invalid(response, case)
        assert response.status_code == case.status, (case, response.content)
    assert [(row.id, row.state) for row in Run.objects.all()] == [(run.id, "queued")]


# --- every parameter and field --------------------------------------------------------


def calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every call of the API."""
    for path, methods in json.loads(document("x"))["paths"].items():
        for method, call in methods.items():
            yield method, path, call


def fields_of(call: dict[str, Any]) -> list[str]:
    """Return the fields of a call's body."""
    if "requestBody" not in call:
        return []
    schema = call["requestBody"]["content"]["application/json"]["schema"]
    name = schema["$ref"].rpartition("/")[2]
    return sorted(json.loads(document("x"))["components"]["schemas"][name]["properties"])


@pytest.fixture
def world(history, person):
    """Return a run that waits for approval, and a plan that can be applied."""
    history.write("0001_first")
    requirement = ApprovalRequirement(required=1, rule="APPROVALS", why="the test says so")
    run, _ = runs.create_run(a_new_run(database="other", approval_requirement=requirement))
    return run.id


QUERIES = [
    (path, parameter["name"])
    for method, path, call in calls()
    if method == "get"
    for parameter in call.get("parameters", ())
    if parameter["in"] == "query"
]
BODIES = [
    (path, name)
    for method, path, call in calls()
    if method == "post"
    for name in fields_of(call)
    if "reauthenticate" not in path
]


def test_no_value_of_a_query_parameter_makes_a_call_fail(world, person):
    """Each is used or refused."""
    for path, name in QUERIES:
        for value in HOSTILE:
            if value == "\ud800":
                continue  # cannot occur in a URL: decoding replaces it
            address = path.replace("{run}", world) + f"?{name}={quote(value)}"
            response = send(person, "get", address)
            assert response.status_code < 500, (address, response.content)


def test_no_value_of_a_body_field_makes_a_call_fail(world, person):
    """Each is used or refused, and none of them starts anything."""
    wrong_types: list[Any] = [None, 2**70, -1, 1.5, [], {}, [["x"]], True]
    for path, name in BODIES:
        body = {"fingerprint": WELL_FORMED} if (path, "fingerprint") in BODIES else {}
        address = path.replace("{run}", UNKNOWN)
        for value in [*HOSTILE, *wrong_types, *(EXTREMES if name == "at" else ())]:
            response = send(person, "post", address, {**body, name: value})
            assert 400 <= response.status_code < 500, (address, value, response.content)
    assert Run.objects.count() == 1


def test_the_longest_text_outside_of_the_basic_plane_is_stored(world, person):
    """A value within the limits is stored, and read back unchanged."""
    reason = "\U0001f680" * 2000
    cancelled = send(person, "post", f"/runs/{world}/cancel", {"reason": reason})
    assert cancelled.status_code == 200, cancelled.content
    told = Entry.objects.filter(run=world).order_by("-sequence").first()
    assert told is not None
    assert json.loads(told.facts)["reason"] == reason


def test_an_identifier_in_the_path_is_checked(world, person):
    """Every call with an id in its path, with every hostile id."""
    for method, path, call in calls():
        for mark in ("{run}", "{rehearsal}"):
            if mark not in path:
                continue
            for value in HOSTILE:
                if value in {"", "\ud800"}:
                    continue
                address = path.replace(mark, quote(value, safe=""))
                body: dict[str, Any] | None = {} if "requestBody" in call else None
                response = send(person, method, address, body)
                assert response.status_code in {400, 404, 405}, (address, response.content)


# --- text in forms --------------------------------------------------------------------


def test_a_reason_that_cannot_be_stored_is_refused_by_a_page(world, person):
    """PostgreSQL alone refuses a NUL: the page responds the same on each database."""
    before = Entry.objects.count()
    for verb in ("cancel", "pause", "resume", "approve", "reject"):
        for reason in ("a\x00b", "x" * 2001):
            page = person.post(f"{PAGES}/runs/{world}/{verb}/", {"reason": reason})
            assert page.status_code == 400, (verb, page.content[:300])
    assert Run.objects.get(pk=world).state == RunState.AWAITING_APPROVAL
    assert Entry.objects.count() == before


@pytest.mark.parametrize(
    "query",
    [
        "plan/?details=9999999999999999999",
        "plan/?target=%00",
        "plan/?database=%00",
        "runs/?before=%00",
        "runs/?database=%00",
        "ledger/?before=99999999999999999999",
        "ledger/?before=0x10",
        "rehearsals/?before=%00",
    ],
)
def test_a_page_refuses_a_query_that_it_cannot_use(world, person, query):
    """By a page with the reason, never by a server error."""
    response = person.get(f"{PAGES}/{query}")
    assert response.status_code in {400, 404}, (query, response.status_code)
