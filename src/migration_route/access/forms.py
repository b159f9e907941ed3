"""What if a form that somebody has sent cannot be read?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import SuspiciousOperation
from django.http import UnreadablePostError
from django.http.multipartparser import MultiPartParserError

from migration_route.errors import InvalidRequest


@contextmanager
def reading_a_form() -> Iterator[None]:
    """Raise `InvalidRequest` where what is read in the block is no form, is larger than
    the project takes, or breaks off."""
    try:
        yield
    except (
        MultiPartParserError,
        SuspiciousOperation,
        UnreadablePostError,
        OSError,
    ) as error:
        raise InvalidRequest("The form cannot be read.") from error
