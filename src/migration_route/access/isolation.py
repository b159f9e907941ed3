"""Isolates views from project-wide transactions, login redirects and CSRF checks."""

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
    """Raise `InvalidRequest` if the form that the block reads is malformed, too large for
    the project's limits, or incomplete."""
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
    """Return the view without a request transaction on any database, a login redirect, and
    a CSRF check before the actor is known.

    A token needs no CSRF check; `access.sessions` makes it for a session.
    """
    for alias in connections.settings:
        view = transaction.non_atomic_requests(using=alias)(view)
    return csrf_exempt(login_not_required(view))


@contextmanager
def savepoints() -> Iterator[None]:
    """Protect surrounding transactions from failed queries in the block.

    Some middleware opens a transaction; after a failed query, PostgreSQL would refuse
    every later query in it.
    """
    with ExitStack() as savepoints:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                savepoints.enter_context(transaction.atomic(using=connection.alias))
        yield
