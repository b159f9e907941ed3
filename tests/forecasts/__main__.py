"""Print the forecast and the observation of each operation."""

from __future__ import annotations

import collections
import os
import sys
import tempfile
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.db import connections  # noqa: E402

from tests.forecasts.cases import cases  # noqa: E402
from tests.forecasts.database import a_database  # noqa: E402
from tests.forecasts.observation import outcomes  # noqa: E402
from tests.forecasts.verdicts import Verdict, verdicts_on  # noqa: E402


def say(text: str = "") -> None:
    """Print a line and flush."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(words: list[str]) -> int:
    """Print a line for each operation, and the totals; return how many forecasts were too
    weak."""
    counts: collections.Counter[tuple[str, Verdict]] = collections.Counter()
    operations = [case for case in cases() if all(word in case.name for word in words)]
    with tempfile.TemporaryDirectory() as folder, a_database(Path(folder)) as alias:
        version = connections[alias].cursor().execute("SHOW server_version").fetchone()[0]
        say(f"{len(operations)} operations on PostgreSQL {version}\n")
        say(f"{'operation':<50} {'tables':<7} {'lock':<9} {'rewrite':<9} scan")
        for case in operations:
            for filled in case.fills:
                found = verdicts_on(outcomes(alias, case, filled=filled))
                row = (found.locks, found.rewrites, found.scans)
                counts.update(zip(("lock", "rewrite", "scan"), row, strict=True))
                shown = "filled" if filled else "empty"
                say(f"{case.name:<50} {shown:<7} {row[0]:<9} {row[1]:<9} {row[2]}")
                for text in found.weaker:
                    say(f"    seen, not foretold: {text[:200]}")
    say()
    for what in ("lock", "rewrite", "scan"):
        say("  ".join([what, *(f"{counts[what, v]} {v}" for v in Verdict)]))
    return sum(counts[what, Verdict.WEAKER] for what in ("lock", "rewrite", "scan"))


sys.exit(1 if main(sys.argv[1:]) else 0)
