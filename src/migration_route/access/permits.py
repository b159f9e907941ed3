"""What does a permit say, and who has signed it?

A permit is the right to carry out one plan, once, which somebody with a shell and the
settings gives. It is signed with SECRET_KEY, so no table is needed to read it.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core import signing

from migration_route.core import clock
from migration_route.core.enums import Mode, Phase
from migration_route.core.errors import InvalidRequest, Unauthenticated

PREFIX = "mrp_"
LONGEST = 4000
"""Characters; a server takes a header of 8 KiB."""

LONGEST_LIFETIME = timedelta(hours=24)
_SALT = "migration_route.permit"
_SEPARATOR = "~"  # ":" has no place in a Bearer token (RFC 6750, 2.1)
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPermit:
    """The right to one run of one plan, as it was signed."""

    id: str  # 32 hexadecimal digits: one run bears it
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
    scopes: tuple[str, ...] = ()  # what carrying it out asks for


def new_id() -> str:
    """Return an id that nobody guesses."""
    return secrets.token_hex(16)


def signed(permit: ApplyPermit) -> str:
    """Return the permit as text. Raises `InvalidRequest` when it is too long to be sent."""
    words = {
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
    text = PREFIX + _signer().sign_object(words, compress=True)
    if len(text) > LONGEST:
        raise InvalidRequest(
            f"The permit would have {len(text)} characters; {LONGEST} can be sent.",
            hint="Give a shorter reason, or fewer targets.",
        )
    return text


def read_permit(text: str) -> ApplyPermit:
    """Read a permit. Raises `Unauthenticated` unless this project has signed it."""
    try:
        words: dict[str, Any] = _signer().unsign_object(text.removeprefix(PREFIX))
        return ApplyPermit(
            id=words["id"],
            issued_by=words["by"],
            issued_at=words["at"],
            expires=words["until"],
            fingerprint=words["plan"],
            database=words["database"],
            targets=tuple(words["targets"]),
            mode=Mode(words["mode"]),
            phase=Phase(words["phase"]) if words["phase"] else None,
            reason=words["reason"],
            rebuild_invalid_indexes=words["rebuild"],
            scopes=tuple(words["scopes"]),
        )
    except (signing.BadSignature, ValueError, KeyError, TypeError) as error:
        raise Unauthenticated(
            "This permit was not signed by this project, or it has been changed.",
            hint="Take all of what 'manage.py migration_route permit' has printed.",
        ) from error


def is_expired(permit: ApplyPermit) -> bool:
    """Tell whether its time is over."""
    return datetime.now(UTC) >= clock.parse_time(permit.expires)


def _signer() -> signing.Signer:
    # SECRET_KEY_FALLBACKS are taken as well: that is Django's own default.
    return signing.Signer(salt=_SALT, sep=_SEPARATOR)
