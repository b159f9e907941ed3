"""Which points are there to kill at, and what comes of one of them?"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.harness.client import expect
from tests.harness.leftovers import leftovers, words_left
from tests.outcome.outcome import differences, read_outcome
from tests.sweep.bench import LEASE
from tests.sweep.truth import IN, OUT, is_over_cautious, look, untruths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sweep.bench import Bench
    from tests.sweep.truth import Reference

TARGETS = ("supervisor", "worker", "backend")
IN_TIME = LEASE + 5.0
"""Seconds from the kill in which a run has to have ended truly."""

PATIENCE = 60.0  # seconds after which nothing is waited for any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One instant of one process, and what is killed then."""

    target: str  # "supervisor", "worker" or "backend"
    process: str  # whose instant: "supervisor" or "worker"
    number: int  # counts from 1 in that process
    label: str

    def __str__(self) -> str:
        return f"{self.target} at {self.process} {self.number} ({self.label})"


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of a point."""

    point: Point
    state: str = ""  # as the run read when it had ended
    seconds: float = 0.0  # from the kill to that
    way: str = ""  # how it went on
    is_over_cautious: bool = False
    violations: list[str] = field(default_factory=list)


def points(instants: Sequence[dict[str, Any]], targets: Sequence[str]) -> list[Point]:
    """Give all points of a run with these instants, target by target.

    In which order two processes came to theirs is chance, and means nothing here.
    """
    found = []
    for target in targets:
        for instant in sorted(instants, key=lambda each: (each["process"], each["number"])):
            process = instant["process"]
            if process == "supervisor" and target != "supervisor":
                continue
            if target == "backend" and not instant["has_session"]:
                continue
            found.append(
                Point(
                    target=target,
                    process=process,
                    number=instant["number"],
                    label=instant["label"],
                )
            )
    return found


def strike(bench: Bench, point: Point, reference: Reference, *, turn: int) -> Result:
    """Kill at this point, see what the run says, take the way on, and compare the end.

    `turn` decides which of two ways on is taken.
    """
    result = Result(point=point)
    bench.restore()
    bench.sabotage(target=point.target, process=point.process, number=point.number)
    run = _ended(bench, bench.start()["id"], result)
    bench.disarm()
    if run is None:
        return result
    result.state = run["state"]
    result.violations += untruths(run, bench.database, bench.steps, reference)
    result.is_over_cautious = is_over_cautious(run, bench.database, reference)
    try:
        _go_on(bench, run, result, turn)
    except AssertionError as surprise:
        result.violations.append(f"the way on fails: {str(surprise)[:400]}")
    else:
        left = differences(reference.end, read_outcome(bench.database))
        left += look(bench.database).differs_from(reference.after[-1])
        if left:
            result.violations.append(f"another end: {'; '.join(left[:4])}")
    verified = bench.machine.get("ledger/verify")
    if not verified["intact"]:
        result.violations.append(f"the ledger does not verify: {verified['message']}")
    left = leftovers(bench.database, bench.folder, ours=bench.pids)
    for known in bench.machine.get("runs")["runs"]:
        left += words_left(known["id"])
    result.violations += [f"left behind: {thing}" for thing in left]
    return result


def _ended(bench: Bench, run: str, result: Result) -> dict[str, Any] | None:
    """Wait until the run was struck and reads as ended; None when it never does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        struck = bench.struck()
        body: dict[str, Any] = expect(bench.machine.call("GET", f"runs/{run}"), 200)
        if struck and body["ended"]:
            break
        if body["ended"] and bench.struck() is None:
            result.violations.append(f"the run ended as {body['state']} before the point")
            return body
        if time.monotonic() > deadline:
            result.violations.append(f"has not ended: {body['state']}, {body['waiting']}")
            return None
        time.sleep(0.05)
    result.seconds = time.time() - struck["at"]
    if struck["label"] != result.point.label:
        result.violations.append(f"struck at another instant: {struck['label']}")
    if result.seconds > IN_TIME:
        result.violations.append(f"ended after {result.seconds:.1f} s")
    return body


def _go_on(bench: Bench, run: dict[str, Any], result: Result, turn: int) -> None:
    """Take the way that the state of the run names."""
    if run["state"] == "partial":
        result.way = _resolve(bench, run)
    if run["state"] == "succeeded":
        result.way = "nothing to do"
        return
    if turn % 2:
        bench.project.manage("migrate", "--verbosity", "0")
        onwards = "migrate"
    else:
        again = bench.machine.apply()
        assert again["state"] in {"succeeded", "noop"}, (
            f"{again['state']}: {again['error']}"
        )
        onwards = "a new run"
    result.way = f"{result.way}, {onwards}" if result.way else onwards


def _resolve(bench: Bench, run: dict[str, Any]) -> str:
    """Resolve a partial run: as its own evidence says, else by a person's hand."""
    how = _named_way(run) if bench.offers_how else None
    if how is not None:
        answer = _say_resolved(bench, run["id"], how)
        if answer.status_code < 400:
            _await_quiet(bench)
            return how
    count = len(bench.database.applied()) - 1
    bench.steps[count].undo(bench.database)
    expect(_say_resolved(bench, run["id"], "as_is" if bench.offers_how else None), 200)
    return "by hand"


def _named_way(run: dict[str, Any]) -> str | None:
    """Choose by what the run says of the operations of its partial step."""
    for step in run["steps"]:
        if step["state"] == "partial":
            states = {said["state"] for said in step.get("operations") or ()}
            if states and states <= IN:
                return "applied"
            if states and states <= OUT:
                return "reverted"
            return "resume" if states else None  # it is refused where nothing is proved
    return None


def _say_resolved(bench: Bench, run: str, how: str | None) -> Any:
    words = {"reason": "the sweep"} | ({"how": how} if how else {})
    return bench.person.call("POST", f"runs/{run}/resolve", json=words)


def _await_quiet(bench: Bench) -> None:
    """Wait until no run owns the database: a resolution may have begun one."""
    deadline = time.monotonic() + PATIENCE
    while bench.machine.status()["default"]["active_run"]:
        assert time.monotonic() < deadline, "the resumed run does not end"
        time.sleep(0.1)
