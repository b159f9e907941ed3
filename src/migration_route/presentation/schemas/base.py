"""What do all bodies have in common that the route answers with?"""

from __future__ import annotations

from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    """A body that the route answers with."""
