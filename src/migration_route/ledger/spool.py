"""Where does the record go while a migration holds the SQLite file?

Into small files in a folder beside the database: they are taken into the tables by
whoever writes next, so that nothing is lost and progress can be read meanwhile.
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
    """Return the folder beside the database of the ledger, if it needs one."""
    return vendor_of(alias).sidecar(connections[alias])


def migration_active(folder: Path | None) -> bool:
    """Tell whether a migration is at work in the file, so that a write would disturb it."""
    return folder is not None and any(folder.glob("run-*.jsonl"))


class RunSpool:
    """The events of one run that the tables could not take yet; one writer."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self._path = folder / f"run-{run}.jsonl"
        self._run = run

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Add lines, and see them onto the disk."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with self._path.open("ab+") as file:
            _drop_torn_line(file)
            file.writelines(json.dumps(line).encode() + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())

    def beat(self) -> None:
        """Show that the run's heart beats, though the tables cannot be written."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._path.touch()

    def read(self) -> list[dict[str, Any]]:
        """Return its lines; the last one may still be in the writing and is left out."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        complete, _, _ = text.rpartition("\n")
        return [json.loads(line) for line in complete.splitlines()]

    def beaten_at(self) -> float | None:
        """Return when the heart last beat here, in seconds since the epoch."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_mtime
        return None

    def ask(self, word: str) -> None:
        """Ask something of the run, though the tables cannot be written."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / f"{word}-{self._run}").touch()

    def withdraw(self, word: str) -> bool:
        """Ask it no longer; False when nobody did. Of many, one is told True."""
        try:
            (self.folder / f"{word}-{self._run}").unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def asked(self) -> frozenset[str]:
        """Return the words that are asked of the run here."""
        end = f"-{self._run}"
        return frozenset(
            path.name.removesuffix(end) for path in self.folder.glob(f"*{end}")
        )

    def remove(self, *, at_the_end: bool = False) -> None:
        """Take it away, with the folder when that was the last file in it."""
        self._path.unlink(missing_ok=True)
        if at_the_end:
            for word in self.asked:
                self.withdraw(word)
        with suppress(OSError):
            self.folder.rmdir()


def _drop_torn_line(file: BinaryIO) -> None:
    """Cut off a last line that a killed writer did not finish."""
    file.seek(0)
    text = file.read()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        file.truncate(whole)


def spool_entry(folder: Path, entry: dict[str, Any]) -> None:
    """Leave an entry for whoever writes to the ledger next."""
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"entry-{time.time_ns()}-{entry['uid']}"
    draft = folder / f".{name}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(entry, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / f"{name}.json")  # whole or not at all


def spooled_entries(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Go through the entries that were left, in the order in which they were left."""
    for path in sorted(folder.glob("entry-*.json")):
        with suppress(FileNotFoundError):  # another writer has just taken it in
            yield path, json.loads(path.read_text(encoding="utf-8"))


def remove_spooled(folder: Path, taken: list[Path]) -> None:
    """Take away the entries that the tables hold now."""
    for path in taken:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
