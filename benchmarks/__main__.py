"""Run every benchmark and print its figures."""

from __future__ import annotations

import platform
import sys

import django

from benchmarks import answers, busy, plans, probes, runs


def main() -> None:
    """Print the figures as they come; with arguments, only those parts."""
    parts = {
        "runs": runs,
        "probes": probes,
        "answers": answers,
        "plans": plans,
        "busy": busy,
    }
    chosen = sys.argv[1:] or list(parts)
    print(f"Python {platform.python_version()}, Django {django.get_version()}\n")
    for name in chosen:
        for line in parts[name].lines():
            print(line, flush=True)
        print()


main()
