"""`python -m tests.soak`: let clients race for many runs, and print the result."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.harness import databases
from tests.harness.prepared import Prepared
from tests.soak.soak import soak
from tests.sweep.__main__ import clean_up_when_ended, say


def main() -> int:
    """Run the soak test; return 1 on any violation."""
    asked = _arguments()
    clean_up_when_ended()
    here = [vendor for vendor in databases.VENDORS if vendor not in databases.missing()]
    vendors = asked.database.split(",") if asked.database else here
    violated = False
    with tempfile.TemporaryDirectory(prefix="route-soak-") as folder:
        prepared = Prepared(Path(folder))
        try:
            for vendor in vendors:
                came = soak(
                    vendor,
                    Path(folder) / f"soak-{vendor}",
                    prepared,
                    runs=asked.runs,
                    seed=asked.seed,
                )
                for violation in came.violations:
                    say(f"{vendor}: {violation}")
                say(f"{vendor}: {came}")
                violated = violated or bool(came.violations)
        finally:
            prepared.drop()
    return 1 if violated else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--database", default="", help="sqlite,postgres,mariadb; all here")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of what the clients choose")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
