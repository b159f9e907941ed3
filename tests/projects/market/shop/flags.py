"""A middleware that reads a table on every request, as for tenants and feature flags."""

from __future__ import annotations

from django.db import connection


def read_flags(get_response):
    """Read the flags before each request, except for the tests' own probe of the server."""

    def middleware(request):
        if request.path != "/pid/":
            with connection.cursor() as cursor:
                cursor.execute("SELECT name FROM shop_flag")
                request.flags = [name for (name,) in cursor.fetchall()]
        return get_response(request)

    return middleware
