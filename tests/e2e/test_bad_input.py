"""Tests that every invalid request gets a clear error and changes nothing."""

from __future__ import annotations

import json

from tests.harness.client import expect_problem
from tests.harness.migrations import column
from tests.harness.pairs import on

LARGE = json.dumps({"database": "default", "fingerprint": "f", "reason": "x" * 70_000})
NOT_TOKENS = (
    "Bearer",
    "Bearer nonsense",
    "Bearer a b",
    "Bearer é",
    "Basic Ym9zczpib3Nz",
    "nonsense",
)
BODIES = {
    "malformed": (b'{"database": ', 400),
    "a list": (b"[]", 400),
    "a number": (b"17", 400),
    "not text": (b"\xff\xfe\x00", 400),
    "wrong type": (b'{"database": 7, "fingerprint": "f"}', 400),
    "wrong item": (b'{"targets": [null], "fingerprint": "f"}', 400),
    "unknown field": (b'{"fingerprint": "f", "force": true}', 400),
    "too deep": (b'{"targets": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
    "too large": (LARGE.encode(), 413),
}


@on("mariadb-gthread")
def test_bodies_that_cannot_be_understood(build, pair):
    """Malformed, mistyped and oversized bodies are `invalid_request` and have no effect."""
    site = build(pair, {"0002_sku": column("sku")}, workers=1)
    ci = site.client("ci")
    for name, (body, status) in BODIES.items():
        answer = ci.call(
            "POST", "runs", content=body, headers={"Content-Type": "application/json"}
        )
        assert expect_problem(answer, status, "invalid_request")["detail"], name
    expect_problem(ci.call("POST", "runs"), 428, "fingerprint_required")
    assert ci.get("runs")["runs"] == []
    assert site.applied() == ["0001_initial"]


@on("sqlite-uvicorn")
def test_a_body_that_never_says_how_long_it_is(build, pair):
    """An oversized body in chunks is rejected with 413 as well."""
    site = build(pair, {"0002_sku": column("sku")}, workers=1)
    pieces = (b"x" * 10_000 for _ in range(20))
    answer = site.client("ci").call("POST", "runs", content=pieces)
    assert answer.status_code in (400, 413), answer.text
    assert site.applied() == ["0001_initial"]


@on("postgres-sync")
def test_names_that_mean_nothing_or_too_much(build, pair):
    """Unknown databases, unknown and ambiguous targets and queries each have their code."""
    site = build(
        pair,
        {"0002_sku": column("sku"), "0003_size": column("size", after="0002_sku")},
        workers=1,
    )
    ci = site.client("ci")
    expect_problem(ci.ask_for_plan(database="nowhere"), 404, "unknown_database")
    for target in (
        "nothing",
        "shop.0009",
        "shop.000",
        "nothing.zero",
        "shop.",
        ".",
        "a.b.c",
    ):
        expect_problem(
            ci.ask_for_plan(target), (400, 404), "unknown_target", "invalid_request"
        )
    for target in ("nothing", "shop.0009_none", "shop.000"):
        expect_problem(ci.ask_for_plan(target), 404, "unknown_target")
    for query in ({"databse": "default"}, {"mode": "faked"}, {"database": ""}):
        expect_problem(ci.call("GET", "plan", params=query), (400, 404))
    expect_problem(ci.call("GET", "plan", params={"databse": "x"}), 400, "invalid_request")
    run = {"database": "nowhere", "targets": [], "fingerprint": "a-b-c"}
    expect_problem(ci.ask_for_run(run), 404, "unknown_database")
    run = {"database": "default", "targets": ["shop.0009"], "fingerprint": "a-b-c"}
    expect_problem(ci.ask_for_run(run), 404, "unknown_target")
    run = {
        "database": "default",
        "targets": ["shop.0002_sku", "shop.zero"],
        "fingerprint": "a-b-c",
    }
    expect_problem(ci.ask_for_run(run), (400, 404, 409))
    run = {"database": "default", "targets": [], "fingerprint": "a-b-c"}
    expect_problem(ci.ask_for_run(run), 409, "plan_changed", "stale_code")
    run = {"database": "default", "targets": [], "fingerprint": "no such fingerprint"}
    expect_problem(ci.ask_for_run(run), 400, "invalid_request")
    assert site.applied() == ["0001_initial"]


@on("postgres-uvicorn")
def test_runs_that_there_are_not(build, pair):
    """An unknown run is `unknown_run`, with and without an installed ledger."""
    site = build(pair, {"0002_sku": column("sku")}, workers=1)
    operator = site.client("operator")
    ids = ("1", "00000000-0000-0000-0000-000000000000", "x' OR 1=1 --", "a" * 300)
    for _ in range(2):
        for run in ids:
            for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
                words = {"json": {"reason": "a walk"}} if method == "POST" else {}
                answer = operator.call(method, f"runs/{run}{path}", **words)
                assert answer.status_code in (400, 404), answer.text
        operator.apply()
    for query in ({"after": "x"}, {"after": "-1"}, {"after": str(10**30)}):
        known = operator.get("runs")["runs"][0]["id"]
        answer = operator.call("GET", f"runs/{known}/events", params=query)
        assert answer.status_code in (200, 400), answer.text
    expect_problem(
        operator.call("GET", f"runs/{known}/events", params={"after": "x"}),
        400,
        "invalid_request",
    )


@on("mariadb-uvicorn")
def test_a_bad_token_opens_nothing(build, pair):
    """Anything but a known token is `unauthenticated`."""
    site = build(pair, {"0002_sku": column("sku")}, workers=1)
    nobody = site.client(None)
    for header in NOT_TOKENS:
        headers = {b"Authorization": header.encode()}
        for method, path in (("GET", "status"), ("GET", "plan"), ("POST", "runs")):
            words = {"json": {"fingerprint": "f"}} if method == "POST" else {}
            answer = nobody.call(method, path, headers=headers, **words)
            expect_problem(answer, 401, "unauthenticated")
    assert site.applied() == ["0001_initial"]


@on("sqlite-gthread")
def test_methods_that_an_address_does_not_answer(build, pair):
    """PUT, PATCH and DELETE are 405 everywhere, with a problem and the allowed methods."""
    site = build(pair, workers=1)
    operator = site.client("operator")
    for path in (
        "status",
        "plan",
        "runs",
        "ready",
        "ledger",
        "ledger/verify",
        "openapi.json",
    ):
        for method in ("PUT", "PATCH", "DELETE"):
            answer = operator.call(method, path)
            expect_problem(answer, 405, "method_not_allowed")
            assert "GET" in answer.headers["Allow"]
