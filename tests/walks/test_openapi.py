"""Does any request that fits `openapi.json` make the server fail?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.migrations import column
from tests.harness.pairs import on
from tests.harness.project import SECRETS


@on("postgres-gthread")
def test_schemathesis_finds_no_server_error(build, pair, tmp_path):
    """Generated requests, fitting and not, are never answered with a 500."""
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
        timeout=140,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-8000:] + answer.stderr[-2000:]
    assert site.applied()[-1] == "0002_sku"
