"""Tests that a real server accepts the valid tokens of pipelines only."""

from __future__ import annotations

import pytest

from tests.harness.client import expect, expect_problem
from tests.harness.issuer import AUDIENCE, Issuer
from tests.harness.migrations import column
from tests.harness.pairs import on_each_once
from tests.harness.project import Options, tokens

TWO_COLUMNS = {"0002_sku": column("sku"), "0003_size": column("size", after="0002_sku")}


@pytest.fixture
def issuer():
    """Yield an issuer without faults."""
    found = Issuer()
    yield found
    found.stop()


def trusting(issuer):
    """Return settings that accept its tokens."""
    return {
        "OIDC": [
            {
                "name": "github",
                "issuer": issuer.address,
                "insecure": True,
                "audience": AUDIENCE,
                "claims": {"repository": "owner/shop", "ref": "refs/heads/main"},
                "scopes": ["apply"],
            }
        ]
    }


def bearing(site, token):
    """Return a client that sends this token."""
    client = site.client(None)
    client.http.headers["Authorization"] = f"Bearer {token}"
    return client


@on_each_once
def test_a_pipeline_applies_with_its_identity_alone(build, pair, issuer):
    """Also while its issuer is down, once the keys are known; an unknown identity
    cannot."""
    options = Options(migration_route=trusting(issuer))
    site = build(pair, TWO_COLUMNS, options=options, workers=1)
    pipeline = bearing(site, issuer.token(jti="one"))
    assert pipeline.apply("shop.0002_sku")["state"] == "succeeded"
    plan = pipeline.plan()
    issuer.health.status = 500
    stranger = bearing(site, issuer.token(repository="eve/shop"))
    expect_problem(stranger.ask_for_run(plan), 401, "unauthenticated")
    expect_problem(
        bearing(site, issuer.token(exp=1)).ask_for_run(plan), 401, "unauthenticated"
    )
    assert site.applied() == ["0001_initial", "0002_sku"]
    run = pipeline.wait_for_end(pipeline.run(plan)["id"])
    assert run["state"] == "succeeded"
    name = "github:owner/shop@refs/heads/main"
    assert run["requested_by"] == {"kind": "token", "name": name}
    entries = site.client("reader").entries()
    requested = next(e for e in entries if e["action"] == "run_requested")
    assert requested["facts"]["credential"]["claims"]["run_id"] == "99"
    denied = [e["facts"] for e in entries if e["action"] == "denied"]
    names = [f.get("credential", {}).get("claims", {}).get("repository") for f in denied]
    assert "eve/shop" in names


@on_each_once
def test_a_caller_from_elsewhere_is_turned_away_behind_a_proxy(build, pair):
    """This host is the proxy here; the client address it forwards is the one that
    counts."""
    networks = {"change": ["192.0.2.0/24"], "trusted_proxies": ["127.0.0.0/8"]}
    options = Options(migration_route={"NETWORKS": networks})
    site = build(pair, TWO_COLUMNS, options=options)
    ci = site.client("ci")
    headers = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7"}
    run = expect(ci.ask_for_run(ci.plan("shop.0002_sku"), headers=headers), 202)
    assert ci.wait_for_end(run["id"])["state"] == "succeeded"
    plan = ci.plan()
    expect_problem(ci.ask_for_run(plan), 403, "forbidden")
    for hops in ("203.0.113.9", "192.0.2.7, 203.0.113.9", "192.0.2.7, nonsense"):
        headers = {"X-Forwarded-For": hops}
        expect_problem(ci.ask_for_run(plan, headers=headers), 403, "forbidden")
    assert site.applied() == ["0001_initial", "0002_sku"]
    entries = site.client("reader").entries()
    denied = {e["address"] for e in entries if e["action"] == "denied"}
    assert denied == {"127.0.0.1", "203.0.113.9", "unknown"}
    requested = next(e for e in entries if e["action"] == "run_requested")
    assert requested["address"] == "192.0.2.7"


@on_each_once
def test_two_secrets_are_good_until_one_is_taken_out(build, pair):
    """The command lists that a client still uses the previous secret."""
    import hashlib

    new, old = "new-secret-of-the-pipeline", "old-secret-of-the-pipeline"
    digests = [hashlib.sha256(word.encode()).hexdigest() for word in (new, old)]
    entry = {"name": "pipe", "sha256": digests, "scopes": ["apply"]}
    options = Options(migration_route={"TOKENS": [*tokens(), entry]})
    site = build(pair, {"0002_sku": column("sku")}, options=options)
    assert bearing(site, old).apply("shop.0002_sku")["state"] == "succeeded"
    bearing(site, new).plan()
    told = site.project.manage("migration_route", "token", "list").stdout
    assert f"secret {digests[1][:12]} (to be removed), last used: 20" in told
    unused = "not in the last 10,000 entries of the ledger"
    assert f"secret {digests[0][:12]} (in use), last used: {unused}" in told
    requested = [
        e["facts"]["credential"]
        for e in site.client("reader").entries()
        if e["action"] == "run_requested"
    ]
    assert requested == [{"id": digests[1][:12], "is_old": True}]
