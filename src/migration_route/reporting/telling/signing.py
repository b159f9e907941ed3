"""How does a webhook know who has sent a message? By a signature over time and body."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

HEADER = "Migration-Route-Signature"


def signature(body: bytes, *, secrets: Iterable[str], seconds: int) -> str:
    """Return the value of the header: `t=1732000000,v1=…`, one `v1` for each secret.

    Each is the HMAC-SHA256, in hexadecimal digits, of the seconds since the epoch, a dot
    and the body. Several secrets sign while one replaces another.
    """
    signed = b"%d." % seconds + body
    marks = [
        hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets
    ]
    return ",".join([f"t={seconds}", *(f"v1={mark}" for mark in marks)])
