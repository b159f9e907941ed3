"""Canonical JSON, whose digest is the same in every process, and values stored as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

import msgspec


def canonical_json(value: Any) -> str:
    """Return `value` as JSON: sorted keys, no spaces, ASCII, no NaN.

    Raises `TypeError` or `ValueError` for a value that JSON cannot represent.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def to_plain(value: Any) -> Any:
    """Return a frozen value as the types of JSON."""
    return msgspec.to_builtins(value, enc_hook=_plain)


class JsonValue:
    """Base of the frozen dataclasses that are stored as JSON, or passed as JSON between
    processes."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as the types of JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read the output of `to_dict`, also of a version without some of the fields that
        have a default. Raises `msgspec.ValidationError`, a `ValueError`."""
        return msgspec.convert(stored, cls)


def _plain(value: Any) -> Any:
    """Return a subclass of `str`, such as a `SafeString` of Django, as a `str`."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON.")
