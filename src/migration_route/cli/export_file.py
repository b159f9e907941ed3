"""Writes an export of the ledger to a file, and verifies one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from migration_route.core.errors import InvalidRequest
from migration_route.ledger.hashchain import verify_export
from migration_route.presentation.schemas import VerificationAnswer
from migration_route.presentation.text.runs import verification_line
from migration_route.presentation.text.terminal import Terminal


def save_export(
    terminal: Terminal, options: dict[str, Any], pieces: Iterable[bytes]
) -> int:
    """Write an export to `--output`, completely or not at all, or print it."""
    path: Path | None = options["output"]
    if path is None:
        for piece in pieces:
            terminal.write(piece.decode().rstrip("\n"))
        return 0
    _write_whole(path, pieces)
    return 0


def verify_export_file(terminal: Terminal, options: dict[str, Any]) -> int:
    """Verify the export in `--file` and print the result; return 1 if it is not intact."""
    path: Path = options["file"]
    try:
        with path.open("rb") as lines:
            found = verify_export(lines)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
    answer = VerificationAnswer(
        intact=found.broken is None,
        entries=found.entries,
        broken=found.broken.sequence if found.broken else None,
        message=found.broken.message if found.broken else "",
    )
    last = f"Digest of the last line: {found.last}"
    terminal.tell(options, answer, [verification_line(answer), last])
    return 0 if answer.intact else 1


def _write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace a file; if the pieces break off, the old file stays. Raises `InvalidRequest`
    if it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
