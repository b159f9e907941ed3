"""The verification of the ledger, and of the evidence of a run, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.presentation import schemas


def verification_line(found: schemas.VerificationAnswer) -> str:
    if found.intact:
        return f"The ledger is intact: {found.entries} entries."
    return f"The ledger is not intact. {found.message}"


def head_lines(found: schemas.VerificationAnswer) -> Iterator[str]:
    if found.ledger_head:
        yield f"Ledger head: {found.ledger_head}"


_SIGNATURES = {
    "valid": "The signature is valid.",
    "invalid": "The signature is not valid.",
    "not_checked": "The signature was not checked: no key was given. Use --key-file with "
    "the SECRET_KEY of the project.",
}


def evidence_lines(found: schemas.EvidenceAnswer) -> Iterator[str]:
    manifest = found.manifest or {}
    run = f" of run {manifest['run']}" if manifest else ""
    if not found.intact:
        yield f"The evidence{run} is not intact. {found.message}"
    else:
        yield f"The evidence{run} ({found.state}) is intact."
        yield f"  {found.entries} entries, {found.events} events"
        yield f"  {found.links} of {found.entries} links of the chain checked{_rest(found)}"
        yield f"  written at {manifest['created_at']} by build {manifest['build']}"
        yield f"  ledger head at that time: {manifest['ledger_head']}"
    if found.intact or found.signature != "not_checked":
        yield _SIGNATURES.get(found.signature, found.signature)


def _rest(found: schemas.EvidenceAnswer) -> str:
    return "" if found.links == found.entries else "; the others lead to other entries"
