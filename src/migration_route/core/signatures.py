"""Django's signatures, computed without Django, so that a client can check them offline."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

Key = str | bytes
"""A value of `SECRET_KEY`."""


def signature(text: str, *, key: Key, salt: str) -> str:
    """Return what `django.core.signing.Signer(key=key, salt=salt).signature(text)` returns.

    That is the HMAC-SHA256 of the text in URL-safe base64 without padding. Its key is the
    SHA-256 of the salt, the word "signer" and the secret key (`django.utils.crypto`,
    `salted_hmac`).
    """
    secret = key.encode() if isinstance(key, str) else key
    derived = hashlib.sha256(f"{salt}signer".encode() + secret).digest()
    found = hmac.new(derived, text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()


def is_signed(text: str, found: str, *, keys: Iterable[Key], salt: str) -> bool:
    """Whether a signature of the text was made with one of the keys."""
    return any(
        hmac.compare_digest(found.encode(), signature(text, key=key, salt=salt).encode())
        for key in keys
    )
