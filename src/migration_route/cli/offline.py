"""The verbs that contact no project, and the files of an export and of evidence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from migration_route.cli.parser import argument
from migration_route.cli.terminal import Terminal
from migration_route.core.credentials import id_of, new_entry, new_secret
from migration_route.core.enums import USER_ONLY_SCOPES, Scope
from migration_route.core.errors import InvalidRequest
from migration_route.core.signatures import Key
from migration_route.ledger.evidence import LARGEST_BUNDLE, is_bundle, verify_bundle
from migration_route.ledger.hashchain import ChainHead, verify_export
from migration_route.presentation.schemas import (
    EvidenceAnswer,
    VerificationAnswer,
    to_json,
)
from migration_route.presentation.text.evidence import (
    evidence_lines,
    head_lines,
    verification_line,
)
from migration_route.presentation.text.exit_codes import DONE, FAILED

_START = 4  # bytes that tell a bundle from an export
_LONGEST_KEYS = 64 * 1024  # characters

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


def verify_file(
    terminal: Terminal, path: Path, *, head: ChainHead | None, keys: Sequence[Key]
) -> int:
    """Verify an export or a bundle and print the result; return 1 if it is not intact."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
            file.seek(0)
            if not is_bundle(start):
                return _verify_export(terminal, file, head)
            content = file.read(LARGEST_BUNDLE + 1)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST_BUNDLE:
        raise InvalidRequest(f"{path} has more than {LARGEST_BUNDLE} bytes.")
    if head is not None:
        raise InvalidRequest(
            f"{path} is the evidence of one run, in which --head cannot be looked up.",
            hint="Verify the head against the ledger, or against an export.",
        )
    return _verify_evidence(terminal, content, keys)


def _verify_export(
    terminal: Terminal, lines: Iterable[bytes], head: ChainHead | None
) -> int:
    found = verify_export(lines, head=head)
    is_whole = found.broken is None
    answer = VerificationAnswer(
        intact=is_whole,
        entries=found.entries,
        broken=found.broken.sequence if found.broken else None,
        message=found.broken.message if found.broken else "",
        ledger_head=f"{found.entries}:{found.last}" if is_whole and found.entries else None,
    )
    last = f"Digest of the last line: {found.last}"
    terminal.tell(to_json(answer), [verification_line(answer), last, *head_lines(answer)])
    return DONE if is_whole else FAILED


def _verify_evidence(terminal: Terminal, content: bytes, keys: Sequence[Key]) -> int:
    found = verify_bundle(content, keys)
    answer = EvidenceAnswer(
        intact=not found.problem,
        message=found.problem,
        signature=found.signature,
        manifest=None if found.manifest is None else found.manifest.to_dict(),
        state=found.state,
        entries=found.entries,
        links=found.links,
        events=found.events,
    )
    terminal.tell(to_json(answer), evidence_lines(answer))
    return DONE if answer.intact else FAILED


def read_keys(path: Path) -> list[str]:
    """Read secret keys, one on each line. Raises `InvalidRequest`."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(_LONGEST_KEYS).splitlines()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text.") from error
    keys = [line for line in lines if line]
    if not keys:
        raise InvalidRequest(
            f"{path} contains no key.", hint="Write the SECRET_KEY on its first line."
        )
    return keys


def save_file(path: Path, pieces: Iterable[bytes]) -> None:
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
