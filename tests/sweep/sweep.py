"""Sweeps one kind of database, and formats the results."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sweep.bench import Bench, opened, reference
from tests.sweep.points import KILLED, Point, Result, points, strike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.harness.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The points to strike at."""

    targets: Sequence[str]
    strikes: Sequence[str] = (KILLED,)
    every: int = 1  # every n-th point of each target, starting in the middle of the first n
    only: str = ""  # only points whose name contains this text

    def of(self, known: Sequence[Point]) -> list[Point]:
        """Choose points, preserving their order."""
        groups: dict[tuple[str, str], list[Point]] = {}
        for point in known:
            if self.only in str(point):
                groups.setdefault((point.strike, point.target), []).append(point)
        return [
            point
            for group in groups.values()
            for point in group[self.every // 2 :: self.every]
        ]

    def strikes_on(self, vendor: str) -> list[str]:
        """Return the strikes that a kind of database supports: SQLite has no server from
        which a host could be cut off while another one reaches it."""
        return [each for each in self.strikes if each == KILLED or vendor != "sqlite"]


def known_points(
    vendor: str, choice: Choice, folder: Path, prepared: Prepared
) -> list[Point]:
    """Run undisturbed, and return the points that would be struck."""
    with opened(vendor, folder / f"{vendor}-known", prepared) as bench:
        reference(bench)
        strikes = choice.strikes_on(vendor)
        return choice.of(points(bench.instants(), choice.targets, strikes))


def sweep(
    vendor: str,
    choice: Choice,
    folder: Path,
    prepared: Prepared,
    *,
    jobs: int = 1,
    tell: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Strike at all chosen points of one kind of database, on `jobs` benches at once."""
    strikes = choice.strikes_on(vendor)
    hosts = any(each != KILLED for each in strikes)
    with contextlib.ExitStack() as stack:

        def bench(number: int) -> Bench:
            place = folder / f"{vendor}-{number}"
            return stack.enter_context(opened(vendor, place, prepared, hosts=hosts))

        benches: queue.SimpleQueue[Bench] = queue.SimpleQueue()
        first = bench(0)
        undisturbed = reference(first)
        chosen = choice.of(points(first.instants(), choice.targets, strikes))
        benches.put(first)
        for number in range(1, jobs):
            benches.put(bench(number))
        turns, telling = itertools.count(), threading.Lock()

        def at(point: Point) -> Result:
            free = benches.get()
            try:
                result = strike(free, point, undisturbed, turn=next(turns))
            finally:
                benches.put(free)
            with telling:
                tell(result)
            return result

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(at, chosen))


def table(results: dict[str, list[Result]]) -> list[str]:
    """Return one line for each database, strike and target, below a heading."""
    lines = [
        "database  strike       target      points  violations  worst s  cautious"
        "  ends / recoveries",
    ]
    for vendor, found in results.items():
        groups: dict[tuple[str, str], list[Result]] = {}
        for result in found:
            groups.setdefault((result.point.strike, result.point.target), []).append(result)
        lines += [
            _line(vendor, strike, target, group)
            for (strike, target), group in groups.items()
        ]
    return lines


def _line(vendor: str, strike: str, target: str, found: list[Result]) -> str:
    violated = sum(bool(result.violations) for result in found)
    worst = max(
        (result.seconds for result in found if "the claim" not in result.point.label),
        default=0.0,
    )
    cautious = sum(result.is_over_cautious for result in found)
    ends = _counted(result.state for result in found)
    ways = _counted(result.way for result in found)
    return (
        f"{vendor:<8}  {strike:<11}  {target:<10}  {len(found):>6}  {violated:>10}"
        f"  {worst:>7.1f}  {cautious:>8}  {ends} / {ways}"
    )


def _counted(words: object) -> str:
    counts = Counter(words)  # type: ignore[call-overload]
    return ", ".join(f"{count} {word or 'none'}" for word, count in counts.most_common())


def details(results: dict[str, list[Result]]) -> list[str]:
    """Return one line for each violation."""
    return [
        f"{vendor}: {result.point}: {violation}"
        for vendor, found in results.items()
        for result in found
        for violation in result.violations
    ]
