"""Fuzzes headers and bodies: no call fails, and none discloses a secret.

It takes a minute at most; `MIGRATION_ROUTE_FUZZ=20000` makes that many calls, within a
thousand seconds.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as bounds
from hypothesis import strategies as some

from migration_route.access.actors import shell_actor
from migration_route.api.openapi import document
from migration_route.core.enums import RunState
from migration_route.ledger import runs
from migration_route.models import Entry
from migration_route.planning.plan import PlanRequest
from migration_route.services import permits
from migration_route.services.plans import plain_plan
from tests.access.test_sessions import user
from tests.factories import a_new_run
from tests.harness.issuer import AUDIENCE, Issuer

CALLS = int(os.environ.get("MIGRATION_ROUTE_FUZZ", "1200"))
API = "/migrations/api/v1"
PLANTED = "mrt_planted-0123456789abcdefghijklmnopqrstuvwxy"
ISSUER = Issuer()
ISSUER.stop()  # its keys are in the settings

TEXT = some.text(
    some.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"),
    max_size=40,
)
WORDS = some.sampled_from(
    [
        "0" * 32,
        "default",
        "other",
        "testapp",
        "testapp.zero",
        "wait=9e999",
        "wait=nan",
        "-1",
        "1e9",
        "99999999999999999999",
        "text/event-stream",
        "application/json",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/x-www-form-urlencoded; charset=nonsense",
        "10.0.0.1, , unknown",
        "[::1",
        "\x85",
        "true",
    ]
)
HEADERS = some.dictionaries(
    some.sampled_from(
        [
            "Accept",
            "Content-Type",
            "Content-Length",
            "Cookie",
            "Host",
            "Idempotency-Key",
            "Last-Event-ID",
            "Origin",
            "Prefer",
            "Referer",
            "X-CSRFToken",
            "X-Forwarded-For",
        ]
    ),
    TEXT | WORDS,
    max_size=4,
)
LEAVES = (
    some.none()
    | some.booleans()
    | some.integers(-(2**70), 2**70)
    | some.floats()
    | some.text(max_size=30)
    | WORDS
)
FIELDS = some.sampled_from(
    [
        "database",
        "targets",
        "fingerprint",
        "reason",
        "build",
        "fake",
        "phase",
        "how",
        "force",
    ]
)
BODIES = some.binary(max_size=60) | some.recursive(
    LEAVES,
    lambda inner: (
        some.lists(inner, max_size=4) | some.dictionaries(FIELDS | TEXT, inner, max_size=4)
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())
QUERIES = some.dictionaries(
    some.sampled_from(
        ["database", "target", "phase", "mode", "details", "after", "before", "limit", "x"]
    ),
    some.text(max_size=20) | WORDS,
    max_size=3,
)
ADDRESSES = sorted(
    (method, path)
    for path, methods in json.loads(document("x"))["paths"].items()
    for method in methods
)
# Pages and the smallest view accept bodies as well.
PERFORM = "/perform/"
ADDRESSES += [
    ("post", PERFORM),
    ("post", "/migrations/permit/"),
    ("post", "/migrations/apply/"),
    ("get", "/migrations/plan/"),
    ("get", "/migrations/runs/{run}/"),
    ("post", "/migrations/runs/{run}/cancel/"),
]


@pytest.fixture
def world(history, project, settings, caplog):
    """Return the secrets of every kind of actor, and the clients for their calls."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "HEARTBEAT_TIMEOUT": "1h",
        "NETWORKS": {"trusted_proxies": ["127.0.0.0/8"]},
        "OIDC": [
            {
                "name": "github",
                "issuer": ISSUER.address,
                "insecure": True,
                "audience": AUDIENCE,
                "claims": {"repository": "owner/shop"},
                "scopes": ["apply", "operate", "rehearse"],
                "jwks": {"keys": ISSUER.published},
            }
        ],
    }
    history.table("0001_a", "made_a")
    project()
    caplog.set_level(logging.DEBUG)
    run, _ = runs.create_run(a_new_run(database="other"))
    runs.move(run.id, to=RunState.CANCELLED, expected={RunState.QUEUED})
    permit = permits.PermitRequest(
        plan=PlanRequest(), fingerprint=plain_plan(PlanRequest()).fingerprint
    )
    secrets = {
        "token": "deployer-secret",
        "unknown": PLANTED,
        "permit": permits.issue(permit, shell_actor())[1],
        "identity": ISSUER.token(),
        "stranger": ISSUER.token(repository="eve/shop"),
    }
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user("apply", "operate", "resolve", "force"))
    secrets["session"] = browser.cookies["sessionid"].value
    return run.id, secrets


def call(world: Any, method: str, path: str, who: str, words: dict[str, Any]) -> Any:
    """Make one call as this actor."""
    run, secrets = world
    client = Client(raise_request_exception=False, enforce_csrf_checks=who == "session")
    headers = dict(words["headers"])
    if who == "session":
        client.cookies["sessionid"] = secrets["session"]
        client.cookies["csrftoken"] = "x" * 32
        headers.pop("Cookie", None)
        headers.setdefault("X-CSRFToken", "x" * 32)
    elif who != "nobody":
        headers["Authorization"] = f"Bearer {secrets[who]}"
    if not headers.get("Host", "").isascii():
        del headers["Host"]  # servers reject it
    length = headers.get("Content-Length", "")
    if length.isdigit() and int(length) > len(words["body"]):
        del headers["Content-Length"]  # the test client reads no further than the content
    kind = headers.pop("Content-Type", "application/json")
    address = path if path.startswith("/migr") or path == PERFORM else API + path
    address = address.replace("{run}", run).replace("{rehearsal}", "0" * 32)
    words = {
        "headers": headers,
        "QUERY_STRING": urlencode(words["query"]),
        **({"data": words["body"], "content_type": kind} if method == "post" else {}),
    }
    return client.generic(method.upper(), address, **words)


@pytest.mark.timeout(180 + CALLS // 10)
def test_nothing_fails_and_no_secret_is_shown(world, caplog):
    """For any actor and call: no 500; no secret in a response, the log or the ledger."""
    _, secrets = world
    actors = ["nobody", *secrets]
    statuses: dict[int, int] = {}
    until = time.monotonic() + max(60.0, CALLS / 20)

    @seed(2026)
    @bounds(
        max_examples=CALLS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        where=some.sampled_from(ADDRESSES),
        who=some.sampled_from(actors),
        headers=HEADERS,
        body=BODIES,
        query=QUERIES,
    )
    def ask(where, who, headers, body, query):
        if time.monotonic() > until:
            return  # a busy machine makes fewer calls
        method, path = where
        answer = call(
            world, method, path, who, {"headers": headers, "body": body, "query": query}
        )
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        # Django itself responds to a Host that it does not allow.
        assert answer.status_code < 500 or answer.status_code == 503, answer.content
        shown = b"" if answer.streaming else answer.content
        for name, secret in secrets.items():
            is_own_page = name == who == "permit" and path.endswith("permit/")
            assert secret.encode() not in shown or is_own_page, name

    ask()
    assert len(statuses) > 5, statuses
    told = caplog.text + "".join(Entry.objects.values_list("facts", flat=True))
    told += "".join(
        f"{n} {a}" for n, a in Entry.objects.values_list("actor_name", "address")
    )
    assert "denied" in caplog.text
    for name, secret in {**secrets, "key": "only-for-the-tests-of-the-route"}.items():
        assert secret not in told, name
        for part in secret.split("."):
            assert len(part) < 40 or part not in told, name
