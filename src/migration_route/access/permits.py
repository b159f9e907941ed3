"""Signs and reads permits.

A permit is the right to apply one plan, once. It is issued from a shell with access to the
settings and signed with SECRET_KEY, so no table is needed to read it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core import signing

from migration_route.core import clock
from migration_route.core.enums import Mode, Phase
from migration_route.core.errors import InvalidRequest, Unauthenticated

PREFIX = "mrp_"
MAX_LENGTH = 4000
"""Maximum number of characters: servers accept headers of 8 KiB."""

MAX_LIFETIME = timedelta(hours=24)
_SALT = "migration_route.permit"
_SEPARATOR = "~"  # ":" is not allowed in a Bearer token (RFC 6750, 2.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPermit:
    """The right to one run of one plan."""

    id: str  # 32 hexadecimal digits; stored in the run that uses it
    issued_by: str  # user@host
    issued_at: str
    expires: str
    fingerprint: str
    database: str
    targets: tuple[str, ...] = ()
    mode: Mode = Mode.APPLY
    phase: Phase | None = None
    reason: str = ""
    rebuild_invalid_indexes: bool = False
    scopes: tuple[str, ...] = ()  # that applying the plan needs


def new_id() -> str:
    return secrets.token_hex(16)


def sign_permit(permit: ApplyPermit) -> str:
    """Return the permit as signed text. Raises `InvalidRequest` when it is too long."""
    fields = {
        "id": permit.id,
        "by": permit.issued_by,
        "at": permit.issued_at,
        "until": permit.expires,
        "plan": permit.fingerprint,
        "database": permit.database,
        "targets": list(permit.targets),
        "mode": permit.mode,
        "phase": permit.phase,
        "reason": permit.reason,
        "rebuild": permit.rebuild_invalid_indexes,
        "scopes": list(permit.scopes),
    }
    text = PREFIX + _signer().sign_object(fields, compress=True)
    if len(text) > MAX_LENGTH:
        raise InvalidRequest(
            f"The permit has {len(text)} characters; at most {MAX_LENGTH} are allowed.",
            hint="Use a shorter reason, or fewer targets.",
        )
    return text


def read_permit(text: str) -> ApplyPermit:
    """Parse a signed permit. Raises `Unauthenticated` unless this project has signed it."""
    try:
        fields: dict[str, Any] = _signer().unsign_object(text.removeprefix(PREFIX))
        return ApplyPermit(
            id=fields["id"],
            issued_by=fields["by"],
            issued_at=fields["at"],
            expires=fields["until"],
            fingerprint=fields["plan"],
            database=fields["database"],
            targets=tuple(fields["targets"]),
            mode=Mode(fields["mode"]),
            phase=Phase(fields["phase"]) if fields["phase"] else None,
            reason=fields["reason"],
            rebuild_invalid_indexes=fields["rebuild"],
            scopes=tuple(fields["scopes"]),
        )
    except (signing.BadSignature, ValueError, KeyError, TypeError) as error:
        raise Unauthenticated(
            "This permit was not signed by this project, or it was changed.",
            hint="Copy the whole output of 'manage.py migration_route permit'.",
        ) from error


def is_expired(permit: ApplyPermit) -> bool:
    return datetime.now(UTC) >= clock.parse_time(permit.expires)


def _signer() -> signing.Signer:
    # Also accepts SECRET_KEY_FALLBACKS, which is Django's default.
    return signing.Signer(salt=_SALT, sep=_SEPARATOR)
