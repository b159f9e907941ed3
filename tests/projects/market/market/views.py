"""Views that report the process and session that handle a request."""

from __future__ import annotations

import os
from pathlib import Path

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse


def pid(request: HttpRequest) -> JsonResponse:
    """Return the process that answers, and its folder."""
    return JsonResponse({"pid": os.getpid(), "folder": str(Path.cwd())})


def shout(request: HttpRequest) -> HttpResponse:
    """Print text to the server's output that belongs to no run."""
    print("printed by another request", flush=True)  # noqa: T201 - that is the point
    return HttpResponse("done")


def session(request: HttpRequest) -> JsonResponse:
    """Return the database session settings of this request (PostgreSQL)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid(), current_setting('lock_timeout'), "
            "current_setting('statement_timeout'), current_setting('application_name'), "
            "(SELECT count(*) FROM pg_locks "
            " WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
        )
        row = cursor.fetchone()
    words = ("pid", "lock_timeout", "statement_timeout", "application_name", "locks")
    return JsonResponse(dict(zip(words, row, strict=True)))
