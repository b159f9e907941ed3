"""A middleware that reads a table in every request, as those for tenants and flags do."""

from __future__ import annotations

from django.db import connection


def read_flags(get_response):
    """Read the flags before each request; the walks' own look at the server is let off."""

    def middleware(request):
        if request.path != "/pid/":
            with connection.cursor() as cursor:
                cursor.execute("SELECT name FROM shop_flag")
                request.flags = [name for (name,) in cursor.fetchall()]
        return get_response(request)

    return middleware
