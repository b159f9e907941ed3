"""How is a form kept that waits for a fresh login? Bounded, and for a short time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest

from migration_route import clock
from migration_route.errors import InvalidRequest

_KEY = "_migration_route_kept"
_LIFETIME = timedelta(minutes=10)
_MOST_FIELDS = 500
_MOST_CHARACTERS = 64 * 1024
_MOST_IN_A_SESSION = 16 * 1024
_MOST_IN_A_COOKIE = 1500  # a browser keeps 4096 bytes, signed and with all the rest
_SECRET = ("password", "permit", "secret", "token")  # in the name of a field
_SHOWN = ("database", "target", "phase", "run", "reason")


class FormTooLarge(InvalidRequest):
    """This form is too large to be carried along."""

    http_status = 413
    hint = "Sign out and in again, then send it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that was sent, and is to be sent again."""

    path: str
    verb: str  # what it does, as the page says it
    fields: tuple[tuple[str, str], ...]
    shown: tuple[tuple[str, str], ...]  # those that tell a person what it is about


def form_of(request: HttpRequest, *, but: str = "") -> Form:
    """Return the form that came with a request, without what is secret in it.

    Raises `FormTooLarge`.
    """
    fields = [
        (name, str(value))
        for name, values in request.POST.lists()
        for value in values
        if name != but and not any(word in name.lower() for word in _SECRET)
    ]
    size = sum(len(name) + len(value) for name, value in fields)
    if len(fields) > _MOST_FIELDS or size > _MOST_CHARACTERS:
        raise FormTooLarge
    match = request.resolver_match
    verb = (match.url_name if match else None) or "go on"
    of_address = match.kwargs.items() if match else ()
    about = [(name, str(value)) for name, value in (*of_address, *fields)]
    return Form(
        path=request.get_full_path(),
        verb=verb.replace("-", " "),
        fields=tuple(fields),
        shown=tuple((name, value) for name, value in about if name in _SHOWN and value),
    )


def keep(request: HttpRequest) -> None:
    """Keep the form of a request in its session, if it is not too large for that."""
    session = request.session
    form = form_of(request)
    words = {
        "user": session.get(SESSION_KEY),
        "at": clock.now(),
        "path": form.path,
        "verb": form.verb,
        "fields": form.fields,
        "shown": form.shown,
    }
    in_a_cookie = settings.SESSION_ENGINE.endswith("signed_cookies")
    most = _MOST_IN_A_COOKIE if in_a_cookie else _MOST_IN_A_SESSION
    if len(json.dumps(words)) <= most:
        session[_KEY] = words


def found(request: HttpRequest) -> Form | None:
    """Return what this person has kept a short while ago, if anything."""
    words: Any = request.session.get(_KEY)
    if not isinstance(words, dict) or words.get("user") != request.session.get(SESSION_KEY):
        return None
    since = clock.age(words["at"])
    if not timedelta(0) <= since < _LIFETIME:
        return None
    return Form(
        path=words["path"],
        verb=words["verb"],
        fields=tuple((name, value) for name, value in words["fields"]),
        shown=tuple((name, value) for name, value in words["shown"]),
    )


def forget(request: HttpRequest) -> None:
    """Forget what was kept: something was sent."""
    session = getattr(request, "session", None)
    if session is not None and _KEY in session:
        del session[_KEY]
