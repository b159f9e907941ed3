"""Spools the record of a run to files while a migration locks the SQLite file.

The files are in a folder beside the database. The next writer moves them into the tables,
so that nothing is lost, and progress can be read meanwhile.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.db import connections

from migration_route.vendors import vendor_of


def spool_dir(alias: str) -> Path | None:
    """Return the spool folder beside a database; None if its vendor needs none."""
    return vendor_of(alias).sidecar(connections[alias])


def migration_active(folder: Path | None) -> bool:
    """Whether a migration is using the SQLite file, so that a write would disturb it."""
    return folder is not None and any(folder.glob("run-*.jsonl"))


class RunSpool:
    """The events of one run that are not in the tables yet; it has one writer."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self._path = folder / f"run-{run}.jsonl"
        self._run = run

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Append lines and sync them to disk."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with self._path.open("ab+") as file:
            _drop_torn_line(file)
            file.writelines(json.dumps(line).encode() + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())

    def beat(self) -> None:
        """Record a heartbeat while the tables cannot be written."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._path.touch()

    def read(self) -> list[dict[str, Any]]:
        """Return the complete lines; the last line may be in the middle of a write."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        complete, _, _ = text.rpartition("\n")
        return [json.loads(line) for line in complete.splitlines()]

    def beaten_at(self) -> float | None:
        """Return the time of the last heartbeat, in seconds since the epoch."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_mtime
        return None

    def ask(self, word: str) -> None:
        """Store a control request while the tables cannot be written."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / f"{word}-{self._run}").touch()

    def withdraw(self, word: str) -> bool:
        """Remove a control request; False if there is none.

        Of several concurrent callers, one gets True.
        """
        try:
            (self.folder / f"{word}-{self._run}").unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def control_requests(self) -> frozenset[str]:
        suffix = f"-{self._run}"
        return frozenset(
            path.name.removesuffix(suffix) for path in self.folder.glob(f"*{suffix}")
        )

    def remove(self, *, at_the_end: bool = False) -> None:
        """Remove the file, and the folder if it is empty then.

        `at_the_end` removes the control requests as well.
        """
        self._path.unlink(missing_ok=True)
        if at_the_end:
            for word in self.control_requests:
                self.withdraw(word)
        with suppress(OSError):
            self.folder.rmdir()


def _drop_torn_line(file: BinaryIO) -> None:
    """Truncate a last line that a killed writer did not finish."""
    file.seek(0)
    text = file.read()
    complete = text.rfind(b"\n") + 1
    if complete < len(text):
        file.truncate(complete)


def spool_entry(folder: Path, entry: dict[str, Any]) -> None:
    """Store an entry for the next writer of the ledger."""
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"entry-{time.time_ns()}-{entry['uid']}"
    draft = folder / f".{name}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(entry, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / f"{name}.json")  # atomic


def spooled_entries(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the spooled entries, oldest first."""
    for path in sorted(folder.glob("entry-*.json")):
        with suppress(FileNotFoundError):  # another writer has just absorbed it
            yield path, json.loads(path.read_text(encoding="utf-8"))


def remove_spooled(folder: Path, taken: list[Path]) -> None:
    """Remove the files of entries that are in the tables now."""
    for path in taken:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
