"""Blocks a migration until the test that observes it lets it continue."""

from __future__ import annotations

import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "gates"


def pass_gate(name: str) -> None:
    """Report that this gate is reached, and wait until the test opens it."""
    (FOLDER / f"{name}.reached").touch()
    deadline = time.monotonic() + 150
    while not (FOLDER / f"{name}.open").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody opened the gate {name}")
        time.sleep(0.02)
