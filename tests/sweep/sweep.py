"""How is one kind of database swept, and what is told of it?"""

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
from tests.sweep.points import Point, Result, points, strike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.harness.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which points are struck."""

    targets: Sequence[str]
    every: int = 1  # each so-manieth point of each target, from the middle of the first
    only: str = ""  # those whose name holds this text

    def of(self, known: Sequence[Point]) -> list[Point]:
        """Choose, and keep the order."""
        named = [point for point in known if self.only in str(point)]
        return [
            point
            for target in self.targets
            for point in [each for each in named if each.target == target][
                self.every // 2 :: self.every
            ]
        ]


def known_points(
    vendor: str, choice: Choice, folder: Path, prepared: Prepared
) -> list[Point]:
    """Go the way undisturbed, and give the points that would be struck."""
    with opened(vendor, folder / f"{vendor}-known", prepared) as bench:
        reference(bench)
        return choice.of(points(bench.instants(), choice.targets))


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
    with contextlib.ExitStack() as stack:

        def bench(number: int) -> Bench:
            return stack.enter_context(
                opened(vendor, folder / f"{vendor}-{number}", prepared)
            )

        benches: queue.SimpleQueue[Bench] = queue.SimpleQueue()
        first = bench(0)
        undisturbed = reference(first)
        chosen = choice.of(points(first.instants(), choice.targets))
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
    """Give one line for each database and target, below a heading."""
    lines = [
        "database  target      points  violations  worst s  cautious  ends / ways on",
    ]
    for vendor, found in results.items():
        targets = dict.fromkeys(result.point.target for result in found)
        lines += [
            _line(vendor, target, [r for r in found if r.point.target == target])
            for target in targets
        ]
    return lines


def _line(vendor: str, target: str, found: list[Result]) -> str:
    violated = sum(bool(result.violations) for result in found)
    worst = max(
        (result.seconds for result in found if "the claim" not in result.point.label),
        default=0.0,
    )
    cautious = sum(result.is_over_cautious for result in found)
    ends = _counted(result.state for result in found)
    ways = _counted(result.way for result in found)
    return (
        f"{vendor:<8}  {target:<10}  {len(found):>6}  {violated:>10}  {worst:>7.1f}"
        f"  {cautious:>8}  {ends} / {ways}"
    )


def _counted(words: object) -> str:
    counts = Counter(words)  # type: ignore[call-overload]
    return ", ".join(f"{count} {word or 'none'}" for word, count in counts.most_common())


def details(results: dict[str, list[Result]]) -> list[str]:
    """Give one line for each violation."""
    return [
        f"{vendor}: {result.point}: {violation}"
        for vendor, found in results.items()
        for result in found
        for violation in result.violations
    ]
