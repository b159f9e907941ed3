"""What does the project's own callable say of a login?

REAUTHENTICATE names it by a dotted path. It takes the request, and its answer is one of:

- `True`: fresh enough, whatever the route knows itself.
- `False`: not, and there is no way from here but to sign in again.
- a text, or a response that redirects: not, and this is where to show it. `{next}` in the
  text becomes the address to come back to, quoted for a query.
- `None`: ask as you would without me.

Whatever else it answers, or raises, is taken as `False`, and is in the log.
"""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import quote

from django.http import HttpRequest, HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

logger = logging.getLogger("migration_route.access")

AS_USUAL: Final = None
"""The answer of a callable that leaves the question to the route."""


def ask(path: str, request: HttpRequest) -> bool | str | None:
    """Return what the callable says: fresh or not, where to go, or None for as usual."""
    try:
        answer = import_string(path)(request)
    except Exception:
        logger.exception("REAUTHENTICATE names %s, which failed: no login is fresh", path)
        return False
    if answer is AS_USUAL or isinstance(answer, bool):
        return answer
    if isinstance(answer, str) and answer:
        return answer.replace("{next}", quote(return_address(), safe=""))
    if isinstance(answer, HttpResponseBase) and answer.headers.get("Location"):
        return answer.headers["Location"]
    logger.error("REAUTHENTICATE names %s, which answered %.80r", path, answer)
    return False


def return_address() -> str:
    """Return the page on which what was suspended can be gone on with."""
    try:
        return reverse("migration_route:suspended")
    except NoReverseMatch:
        return "/"
