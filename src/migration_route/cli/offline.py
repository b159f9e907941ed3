"""The verbs that contact no project, and the file of an export."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from migration_route.cli.parser import argument
from migration_route.cli.terminal import Terminal
from migration_route.core.credentials import id_of, new_entry, new_secret
from migration_route.core.enums import USER_ONLY_SCOPES, Scope
from migration_route.core.errors import InvalidRequest
from migration_route.ledger.hashchain import verify_export
from migration_route.presentation.schemas import VerificationAnswer, to_json
from migration_route.presentation.text.exit_codes import DONE, FAILED
from migration_route.presentation.text.runs import verification_line

TOKEN_ARGUMENTS = (
    argument("name", help="name of the token"),
    argument(
        "--scope",
        action="append",
        choices=[scope.value for scope in Scope if scope not in USER_ONLY_SCOPES],
        required=True,
        help="scope to grant; repeat for several",
    ),
    argument(
        "--token-database",
        action="append",
        metavar="ALIAS",
        help="limit the token to this database; repeat for several",
    ),
    argument(
        "--network",
        action="append",
        metavar="CIDR",
        help="limit the token to this network; repeat for several",
    ),
    argument(
        "--expires",
        metavar="YYYY-MM-DD",
        help="first day on which the token is no longer valid",
    ),
)


def create_token(terminal: Terminal, options: dict[str, Any]) -> int:
    """Create a token; print its secret once, and the entry for TOKENS."""
    secret = new_secret()
    entry = new_entry(
        secret,
        name=options["name"],
        scopes=options["scope"],
        databases=options["token_database"],
        networks=options["network"],
        expires=options["expires"] or "",
    )
    if terminal.is_json:
        answer = {"secret": secret, "id": id_of(entry["sha256"]), "entry": entry}
        terminal.write(msgspec.json.encode(answer).decode())
        return DONE
    terminal.write(f"Secret, shown only once:\n\n    {secret}\n")
    terminal.write('Add this entry to MIGRATION_ROUTE["TOKENS"]:\n')
    terminal.write(f"    {entry!r},\n")
    terminal.write(f"ID of the secret in the ledger: {id_of(entry['sha256'])}")
    return DONE


def verify_export_file(terminal: Terminal, path: Path) -> int:
    """Verify an export and print the result; return 1 if it is not intact."""
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
    terminal.tell(to_json(answer), [verification_line(answer), last])
    return DONE if answer.intact else FAILED


def save_export(path: Path, pieces: Iterable[bytes]) -> None:
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
