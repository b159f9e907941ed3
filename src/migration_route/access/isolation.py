"""What does Django decide for every view that the route decides for itself?

What if a form that somebody has sent cannot be read?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import SuspiciousOperation
from django.db import connections, transaction
from django.http import HttpResponseBase, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.views.decorators.csrf import csrf_exempt

from migration_route.core.errors import InvalidRequest


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


View = Callable[..., HttpResponseBase]


def isolated_view(view: View) -> View:
    """Return the view as one with no request transaction on any database, no login
    redirect, and no CSRF check before the actor is known: a token needs none, and
    `access.sessions` checks it for a session."""
    for alias in connections.settings:
        view = transaction.non_atomic_requests(using=alias)(view)
    return csrf_exempt(login_not_required(view))


@contextmanager
def savepoints() -> Iterator[None]:
    """Let a query of the block fail without spoiling a transaction that surrounds it, as
    some middleware opens one: PostgreSQL would refuse whatever comes after."""
    with ExitStack() as savepoints:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                savepoints.enter_context(transaction.atomic(using=connection.alias))
        yield
