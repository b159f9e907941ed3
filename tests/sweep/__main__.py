"""`python -m tests.sweep`: strike at every point, and print the results."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.sweep.points import STRIKES, TARGETS, Result
from tests.sweep.sweep import Choice, details, known_points, sweep, table


def main() -> int:
    """Run the sweep; return 1 on any violation."""
    asked = _arguments()
    clean_up_when_ended()
    here = [vendor for vendor in databases.VENDORS if vendor not in databases.missing()]
    vendors = asked.database.split(",") if asked.database else here
    choice = Choice(
        targets=asked.targets.split(","),
        strikes=asked.strikes.split(","),
        every=asked.every,
        only=asked.only,
    )
    results: dict[str, list[Result]] = {}
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="route-sweep-") as folder:
        prepared = Prepared(Path(folder))
        try:
            for vendor in vendors:
                if asked.list:
                    for point in known_points(vendor, choice, Path(folder), prepared):
                        say(f"{vendor}: {point}")
                    continue
                results[vendor] = sweep(
                    vendor, choice, Path(folder), prepared, jobs=asked.jobs, tell=_tell
                )
        finally:
            prepared.drop()
    if asked.list:
        return 0
    violations = details(results)
    for line in ("", *violations, "", *table(results), ""):
        say(line)
    struck = sum(map(len, results.values()))
    say(f"{struck} points, {len(violations)} violations, {time.monotonic() - start:.0f} s")
    return 1 if violations or not struck else 0


def clean_up_when_ended() -> None:
    """Remove databases and servers on SIGTERM too, as `timeout` sends it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__)
    parser.add_argument("--database", default="", help="sqlite,postgres,mariadb; all here")
    parser.add_argument("--strikes", default=",".join(STRIKES))
    parser.add_argument("--targets", default=",".join(TARGETS), help="what is killed")
    parser.add_argument("--every", type=int, default=1, help="every n-th point only")
    parser.add_argument("--only", default="", help="points whose name contains this text")
    parser.add_argument("--list", action="store_true", help="only list the points")
    parser.add_argument("--jobs", type=int, default=1, help="benches at once")
    return parser.parse_args()


def _tell(result: Result) -> None:
    mark = "VIOLATED" if result.violations else "ok"
    say(
        f"{mark:<8} {result.point}: {result.state} after {result.seconds:.1f} s, "
        f"{result.way or 'not continued'}"
    )
    for violation in result.violations:
        say(f"         {violation}")


def say(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
