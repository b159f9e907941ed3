"""Fuzzes the server with requests that are generated from `openapi.json`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_bootstrap import LIVE_SESSION
from tests.e2e.test_pipelines import trusting
from tests.harness.issuer import Issuer
from tests.harness.migrations import column
from tests.harness.pairs import on
from tests.harness.project import SECRETS, Options

EXAMPLES = os.environ.get("MIGRATION_ROUTE_FUZZ", "2")
"""Number of requests of each kind; set it higher for a longer search."""

_LONG = 600 + 60 * int(EXAMPLES)
"""Seconds after which the server counts as hanging: requests may wait for runs, and the
machine may be busy."""


@pytest.mark.timeout(_LONG + 120)
@on("postgres-gthread")
def test_schemathesis_finds_no_server_error(build, pair, tmp_path):
    """Generated requests, valid and invalid, never get a 500."""
    site = build(pair, {"0002_sku": column("sku")})
    site.client("operator").apply()
    answer = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{site.server.url}/_m/api/v1/openapi.json",
            "--header",
            f"Authorization: Bearer {SECRETS['operator']}",
            "--checks",
            "not_a_server_error",
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "5",
            "--generation-database",
            "none",
            "--request-timeout",
            "30",
            "--seed",
            "2026",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=_LONG,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-8000:] + answer.stderr[-2000:]
    assert site.applied()[-1] == "0002_sku"


@pytest.mark.timeout(2 * _LONG)
@on("sqlite-gthread")
def test_schemathesis_finds_nothing_as_any_kind_of_actor(build, pair, tmp_path):
    """Anonymous clients, users, permits and pipelines get no 500 either; and their
    credentials are in no log and on no ledger."""
    issuer = Issuer()
    try:
        options = Options(migration_route=trusting(issuer))
        site = build(pair, {"0002_sku": column("sku")}, options=options)
        site.client("operator").apply()
        site.project.add_migrations({"0003_size": column("size", after="0002_sku")})
        manage = site.project.manage
        plan = json.loads(manage("migration_route", "plan", "--json").stdout)
        told = manage("migration_route", "permit", plan["fingerprint"], "--json").stdout
        # Otherwise `ready` would be a 503, which is not an error here.
        (site.project.folder / "shop/migrations/0003_size.py").unlink()
        session = site.project.python(LIVE_SESSION).splitlines()[-1]
        planted = {
            "permit": json.loads(told)["permit"],
            "pipeline": issuer.token(),
            "stranger": issuer.token(repository="eve/shop"),
            "session": session,
            "token": SECRETS["ci"],
        }
        headers = {
            "nobody": "Accept: */*",
            "session": f"Cookie: sessionid={session}; csrftoken={'x' * 32}",
            **{
                name: f"Authorization: Bearer {planted[name]}"
                for name in ("permit", "pipeline", "stranger")
            },
        }
        for name, header in headers.items():
            answer = schemathesis(site, header, tmp_path)
            text = answer.stdout[-6000:] + answer.stderr[-2000:]
            assert answer.returncode == 0, f"{name}: {text}"
        log = site.server.log.read_text()
        entries = json.dumps(site.client("reader").entries())
        for name, secret in planted.items():
            assert secret not in log, name
            assert secret not in entries, name
    finally:
        issuer.stop()


def schemathesis(site, header, folder):
    """Let schemathesis call everything in the document, with this header."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{site.server.url}/_m/api/v1/openapi.json",
            "--header",
            header,
            "--header",
            f"X-CSRFToken: {'x' * 32}",
            "--checks",
            "not_a_server_error",
            "--phases",
            "fuzzing",
            "--max-examples",
            EXAMPLES,
            "--generation-database",
            "none",
            "--request-timeout",
            "30",
            "--seed",
            "2026",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_LONG,
        check=False,
    )
