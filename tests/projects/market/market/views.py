"""Which process answers, and what does it print?"""

from __future__ import annotations

import os
from pathlib import Path

from django.http import HttpRequest, HttpResponse, JsonResponse


def pid(request: HttpRequest) -> JsonResponse:
    """Say which process answers, and from which folder."""
    return JsonResponse({"pid": os.getpid(), "folder": str(Path.cwd())})


def shout(request: HttpRequest) -> HttpResponse:
    """Print something that no run has printed."""
    print("printed by another request", flush=True)  # noqa: T201 - that is the point
    return HttpResponse("done")
