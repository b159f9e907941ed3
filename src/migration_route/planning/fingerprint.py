"""What names a plan, so that exactly this one is approved and carried out?

A fingerprint reads `CODE-PLAN`. PLAN is the digest of what would be done and from which
state: only it decides whether two plans are the same. CODE is a short digest of the
build that read the plan: where two plans differ, it tells whether the code did. No Django.
"""

from __future__ import annotations

from collections.abc import Iterable

from migration_route.canonical import digest
from migration_route.planning.plan import Step
from migration_route.vocabulary import Direction, Mode

_CODE_LENGTH = 12


def fingerprint_of(
    *,
    database: str,
    targets: Iterable[str],
    direction: Direction,
    mode: Mode,
    steps: Iterable[Step],
    applied: Iterable[tuple[str, str]],
    build: str,
) -> str:
    """Return the fingerprint of a plan."""
    plan = digest(
        {
            "database": database,
            "targets": list(targets),
            "direction": direction,
            "mode": mode,
            "steps": [[step.app, step.name, step.direction, step.digest] for step in steps],
            "applied": sorted(list(key) for key in set(applied)),
        }
    )
    return f"{code_of(build)}-{plan}"


def code_of(build: str) -> str:
    """Return the part of a fingerprint that names the code."""
    return digest(build)[:_CODE_LENGTH]


def same_plan(left: str, right: str) -> bool:
    """Tell whether two fingerprints name the same plan, whichever build read it."""
    return left.rpartition("-")[2] == right.rpartition("-")[2]


def read_by(build: str, fingerprint: str) -> bool:
    """Tell whether a fingerprint comes from this build."""
    return fingerprint.partition("-")[0] == code_of(build)
