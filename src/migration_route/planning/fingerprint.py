"""What names a plan, so that exactly this one is approved and carried out?

A fingerprint reads `CODE-PLACE-PLAN`. PLAN is the digest of what would be done and from
which state: only it decides whether two plans are the same. CODE and PLACE are short
digests of the build that read the plan and of the files that it was read from: where two
plans differ, they tell whether the code did. No Django.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from migration_route.canonical import digest
from migration_route.errors import InvalidRequest
from migration_route.planning.plan import Step
from migration_route.vocabulary import Direction, Mode, Phase

_CODE_LENGTH = 12
_PLACE_LENGTH = 8
_SHAPE = re.compile(r"[0-9A-Za-z]+-[0-9A-Za-z]+-[0-9A-Za-z]+")


def fingerprint_of(
    *,
    database: str,
    targets: Iterable[str],
    direction: Direction,
    mode: Mode,
    steps: Iterable[Step],
    applied: Iterable[tuple[str, str]],
    build: str,
    place: str,
    phase: Phase | None = None,
    left_out: Iterable[tuple[str, str, str]] = (),
) -> str:
    """Return the fingerprint of a plan; `place` as `sources.place` names it.

    `left_out`: app, name and source digest of what a plan of one phase leaves out.
    """
    words = {
        "database": database,
        "targets": list(targets),
        "direction": direction,
        "mode": mode,
        "steps": [[step.app, step.name, step.direction, step.digest] for step in steps],
        "applied": sorted(list(key) for key in set(applied)),
    }
    if phase is not None:
        words["phase"] = phase
        words["left_out"] = [list(step) for step in left_out]
    plan = digest(words)
    return f"{digest(build)[:_CODE_LENGTH]}-{digest(place)[:_PLACE_LENGTH]}-{plan}"


def require_well_formed(fingerprint: str) -> None:
    """Raise `InvalidRequest` for text that cannot be the fingerprint of any plan; none at
    all is left to the caller."""
    if fingerprint and _SHAPE.fullmatch(fingerprint) is None:
        raise InvalidRequest(
            f"{fingerprint[:120]!r} is not a fingerprint: it has three parts, "
            "CODE-PLACE-PLAN.",
            hint="Copy the fingerprint of the plan as a whole.",
        )


def same_plan(left: str, right: str) -> bool:
    """Tell whether two fingerprints name the same plan, whichever build read it."""
    return left.rpartition("-")[2] == right.rpartition("-")[2]


def same_code(left: str, right: str) -> bool:
    """Tell whether two fingerprints were read by the same build, or from the same files.

    Every process answers for the files as they are now. So two that read the same ones
    do not differ in code, even if they were edited before the second one started.
    """
    one, other = (fingerprint.split("-") for fingerprint in (left, right))
    if len(one) != 3 or len(other) != 3:
        return False
    return one[0] == other[0] or one[1] == other[1]
