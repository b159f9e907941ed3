"""Exit codes of the verbs, the same for both command lines."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.core.enums import RehearsalState, RunState
from migration_route.core.errors import RouteError
from migration_route.presentation.schemas import (
    HealthAnswer,
    RehearsalAnswer,
    RunAnswer,
    StatusAnswer,
)

DONE = 0
FAILED = 1
USAGE = 2
PENDING = 3
NOT_ALLOWED = 4
NOT_NOW = 5
AWAITS_APPROVAL = 6
NEEDS_PERSON = 7
UNREACHABLE = 8
INTERRUPTED = 130  # as shells report Ctrl-C

MEANINGS = {
    DONE: "done",
    FAILED: "failed",
    USAGE: "invalid request",
    PENDING: "migrations are pending",
    NOT_ALLOWED: "not allowed",
    NOT_NOW: "not now",
    AWAITS_APPROVAL: "awaits approval",
    NEEDS_PERSON: "a user has to resolve it",
    UNREACHABLE: "unreachable",
    INTERRUPTED: "interrupted",
}
SUMMARY = f"Exit codes: {', '.join(f'{code} {words}' for code, words in MEANINGS.items())}."

RUN_EXITS: dict[str, int] = {
    RunState.SUCCEEDED: DONE,
    RunState.NOOP: DONE,
    RunState.STALE: NOT_NOW,
    RunState.PARTIAL: NEEDS_PERSON,
    RunState.LOST: NEEDS_PERSON,
    RunState.AWAITING_APPROVAL: AWAITS_APPROVAL,
    RunState.EXPIRED: AWAITS_APPROVAL,
    RunState.REJECTED: NOT_ALLOWED,
}
"""By the state of the run; any other end, and an unknown state, is a failure."""

_BY_STATUS = {401: NOT_ALLOWED, 403: NOT_ALLOWED, 409: NOT_NOW}
_BY_STATUS |= dict.fromkeys((429, 502, 503, 504), UNREACHABLE)


def exit_of_run(run: RunAnswer) -> int:
    """Return the exit code of a run that has ended or is no longer waited for."""
    return RUN_EXITS.get(run.state, FAILED)


def exit_of_problem(code: str, status: int) -> int:
    """Return the exit code of an error: by its code, or by its HTTP status if the code is
    unknown here."""
    if (known := _codes().get(code)) is not None:
        return known
    return _BY_STATUS.get(status, USAGE if 400 <= status < 500 else FAILED)


def exit_of_status(found: StatusAnswer, check: str | None) -> int:
    """Return the exit code of `status`; `check` is "pending", "required" or None."""
    if not check:
        return DONE
    problems = [
        exit_of_problem(each.problem.code, each.problem.status)
        for each in found.databases
        if each.problem
    ]
    counts = [
        each.required if check == "required" else each.pending for each in found.databases
    ]
    return max([*problems, *(PENDING for count in counts if count)], default=DONE)


def exit_of_health(found: HealthAnswer) -> int:
    return DONE if found.verdict == "go" else NOT_NOW


def exit_of_rehearsal(found: RehearsalAnswer) -> int:
    return FAILED if found.state == RehearsalState.FAILED else DONE


def _codes() -> dict[str, int]:
    return {kind.code: kind.exit_code for kind in _tree(RouteError)}


def _tree(kind: type[RouteError]) -> Iterator[type[RouteError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)
