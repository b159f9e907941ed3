"""How long may a request wait before the server in front of it gives up?"""

from __future__ import annotations

import sys
from typing import Any

from django.http import HttpRequest

from migration_route.conf import route_settings

_SHARE = 0.6  # of the server's limit: the rest is for planning and answering


def longest_wait(request: HttpRequest) -> float:
    """Return the seconds that this request may wait at most.

    A sync worker of gunicorn is killed when a request lasts longer than its `timeout`
    (gunicorn, Settings, timeout); other servers let a request last.
    """
    longest = route_settings().wait.total_seconds()
    limit = _sync_worker_timeout(request)
    return min(longest, limit * _SHARE) if limit else longest


def _sync_worker_timeout(request: HttpRequest) -> float:
    environ: dict[str, Any] = getattr(request, "environ", {})
    if "gunicorn" not in str(environ.get("SERVER_SOFTWARE", "")) or environ.get(
        "wsgi.multithread"
    ):
        return 0.0
    # The worker is a few frames above; its configuration is nowhere in the request.
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        worker = frame.f_locals.get("self")
        timeout = getattr(getattr(worker, "cfg", None), "timeout", None)
        if isinstance(timeout, int | float):
            return float(timeout)
        frame = caller
    return 0.0
