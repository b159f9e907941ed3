"""The points at which a run is struck, and the check of one point.

A run is killed, or its host is interrupted while another host concludes the run and
continues; then the host comes back.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.harness.client import expect
from tests.harness.hosts import record_of
from tests.harness.leftovers import leftovers, words_left
from tests.harness.processes import end_all_in
from tests.outcome.outcome import differences, read_outcome
from tests.sweep.bench import HEARTBEAT_TIMEOUT
from tests.sweep.truth import ABSENT, PRESENT, is_over_cautious, look, untruths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sweep.bench import Bench
    from tests.sweep.truth import Reference

TARGETS = ("supervisor", "worker", "backend")
KILLED, PARTITIONED, FROZEN = "killed", "partitioned", "frozen"
STRIKES = (KILLED, PARTITIONED, FROZEN)
HOST = "host"
"""The target of every strike that does not kill."""

IN_TIME = HEARTBEAT_TIMEOUT + 5.0
"""Seconds after the kill within which a run must have ended with a true state."""

STARTING = 30.0
"""Seconds that another host allows a process to claim the run it was started for."""

RETURN = 45.0
"""Seconds within which the processes of a recovered host must end: one that waits for a
lost answer notices by a keepalive or a timeout of its own."""

PATIENCE = 60.0  # seconds after which every wait gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One instant of one process, and the target of the strike."""

    strike: str = KILLED
    target: str  # "supervisor", "worker" or "backend"; "host" for an interruption
    process: str  # process of the instant: "supervisor" or "worker"
    number: int  # counts from 1 in that process
    label: str

    def __str__(self) -> str:
        return f"{self.strike} {self.target} at {self.process} {self.number} ({self.label})"


@dataclass(slots=True, kw_only=True)
class Result:
    """The result at one point."""

    point: Point
    state: str = ""  # as reported when the run had ended
    seconds: float = 0.0  # from the kill until then
    way: str = ""  # how the recovery continued
    is_over_cautious: bool = False
    violations: list[str] = field(default_factory=list)


def points(
    instants: Sequence[dict[str, Any]], targets: Sequence[str], strikes: Sequence[str]
) -> list[Point]:
    """Return all points of a run with these instants, by strike and target.

    The relative order of the instants of two processes is random, and has no meaning here.
    """
    ordered = sorted(instants, key=lambda each: (each["process"], each["number"]))
    return [
        Point(
            strike=strike,
            target=target,
            process=instant["process"],
            number=instant["number"],
            label=instant["label"],
        )
        for strike in strikes
        for target in (targets if strike == KILLED else (HOST,))
        for instant in ordered
        if _is_struck_at(target, instant)
    ]


def _is_struck_at(target: str, instant: dict[str, Any]) -> bool:
    if target == "backend" and not instant["has_session"]:
        return False
    return target in {"supervisor", HOST} or instant["process"] != "supervisor"


def strike(bench: Bench, point: Point, reference: Reference, *, turn: int) -> Result:
    """Strike at this point, check what the run reports, recover, and compare the outcome.

    `turn` selects one of two ways to continue.
    """
    result = Result(point=point)
    is_killed = point.strike == KILLED
    bench.restore(on_host=not is_killed)
    bench.sabotage(target=point.target, process=point.process, number=point.number)
    run = bench.start()["id"]
    try:
        body = _ended(bench, run, result)
        bench.disarm()
        if body is not None:
            _continue(bench, body, result, reference, turn)
    finally:
        bench.disarm()
        if not is_killed:
            _come_back(bench, run, result)
    if body is None:
        return result
    if not any(violation.startswith(_NO_WAY) for violation in result.violations):
        left = differences(reference.end, read_outcome(bench.database))
        left += look(bench.database).differs_from(reference.after[-1])
        if left:
            result.violations.append(f"another end: {'; '.join(left[:4])}")
        if twice := _applied_twice(bench):
            result.violations.append(f"recorded twice: {', '.join(twice)}")
    verified = bench.machine.get("ledger/verify")
    if not verified["intact"]:
        result.violations.append(f"the ledger does not verify: {verified['message']}")
    result.violations += _left_behind(bench)
    return result


def _continue(
    bench: Bench, run: dict[str, Any], result: Result, reference: Reference, turn: int
) -> None:
    """Compare what the run reports with the database, and recover."""
    result.state = run["state"]
    result.violations += untruths(run, bench.database, bench.steps, reference)
    result.is_over_cautious = is_over_cautious(run, bench.database, reference)
    try:
        _go_on(bench, run, result, turn)
    except AssertionError as surprise:
        result.violations.append(f"{_NO_WAY}: {str(surprise)[:400]}")


_NO_WAY = "the recovery fails"


def _come_back(bench: Bench, run: str, result: Result) -> None:
    """Recover the interrupted host: the run has ended, so its processes end and change
    nothing."""
    assert bench.host is not None
    record = record_of(bench.database, run)
    bench.host.recover(run)
    try:
        bench.host.await_end_of(run, seconds=RETURN)
    except AssertionError as surprise:
        result.violations.append(f"the host that came back: {surprise}")
        end_all_in(bench.host.project.folder, but=bench.pids)
        return
    after = record_of(bench.database, run)
    for kind, lines in record.items():
        if more := [_shortened(line) for line in after[kind] if line not in lines]:
            result.violations.append(
                f"the host that came back has written {kind} of the run: {more[:3]}"
            )
        elif after[kind] != lines:
            result.violations.append(f"{kind} of the run are gone")


def _shortened(line: tuple[Any, ...]) -> str:
    return ", ".join(str(value)[:60] for value in line)


def _applied_twice(bench: Bench) -> list[str]:
    recorded = Counter(bench.database.applied())
    return [name for name, count in recorded.items() if count > 1]


def _left_behind(bench: Bench) -> list[str]:
    """List what is left of the runs, on either host."""
    left = leftovers(bench.database, bench.folder, ours=bench.pids)
    for known in bench.machine.get("runs")["runs"]:
        left += words_left(known["id"])
        if bench.host is not None:
            bench.remote.get(f"runs/{known['id']}")  # that host notices the end of the run
            left += words_left(known["id"], bench.host.project.folder / "tmp")
    return [f"left behind: {thing}" for thing in left]


def _ended(bench: Bench, run: str, result: Result) -> dict[str, Any] | None:
    """Wait until the run was struck and has ended; None on timeout."""
    deadline = time.monotonic() + PATIENCE
    how = result.point.strike
    is_struck = False
    while True:
        struck = bench.struck()
        if struck and not is_struck:
            is_struck = True
            if how != KILLED:
                bench.interrupt(how, run)
        body: dict[str, Any] = expect(bench.machine.call("GET", f"runs/{run}"), 200)
        if struck and body["ended"]:
            break
        if body["ended"] and bench.struck() is None:
            result.violations.append(f"the run ended as {body['state']} before the point")
            return body
        if time.monotonic() > deadline:
            result.violations.append(f"has not ended: {body['state']}, {body['waiting']}")
            return None
        time.sleep(0.05 if is_struck else 0.01)
    result.seconds = time.time() - struck["at"]
    if struck["label"] != result.point.label:
        result.violations.append(f"struck at another instant: {struck['label']}")
    if result.seconds > _allowed(result.point):
        result.violations.append(f"ended after {result.seconds:.1f} s")
    return body


def _allowed(point: Point) -> float:
    """Return the seconds within which the run of a point must have ended."""
    is_unclaimed = point.strike != KILLED and point.label == "before the claim"
    return IN_TIME + STARTING if is_unclaimed else IN_TIME


def _go_on(bench: Bench, run: dict[str, Any], result: Result, turn: int) -> None:
    """Continue as the state of the run requires."""
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
    """Resolve a partial run: by its own evidence, else by undoing the step by hand."""
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
    """Choose the resolution from the states of the operations of the partial step."""
    for step in run["steps"]:
        if step["state"] == "partial":
            states = {said["state"] for said in step.get("operations") or ()}
            if states and states <= PRESENT:
                return "applied"
            if states and states <= ABSENT:
                return "reverted"
            return "continue" if states else None  # refused where nothing is proved
    return None


def _say_resolved(bench: Bench, run: str, how: str | None) -> Any:
    words = {"reason": "the sweep"} | ({"how": how} if how else {})
    return bench.person.call("POST", f"runs/{run}/resolve", json=words)


def _await_quiet(bench: Bench) -> None:
    """Wait until no run owns the database: a resolution may have started one."""
    deadline = time.monotonic() + PATIENCE
    while bench.machine.status()["default"]["active_run"]:
        assert time.monotonic() < deadline, "the resumed run does not end"
        time.sleep(0.1)
