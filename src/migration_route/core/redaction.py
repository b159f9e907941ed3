"""Redacts secrets in every text that is recorded, sent or shown.

One redactor, built from the settings of the project, serves the supervisor, the worker and
the interfaces. It masks the secrets of the settings, and text that looks like a secret.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from migration_route.core.secret_patterns import Redactor

_SHORTEST = 6  # a shorter password also occurs as an ordinary word
_SHORTEST_GUESSED = 8  # of a setting that is a secret only by its name
_DEEPEST = 8
_LONGEST_LIST = 1000

_PASSWORD = re.compile(r"pass(?:word|wd|phrase)?$|^secret", re.IGNORECASE)
_GUESSED = re.compile(r"API|TOKEN|KEY|SECRET|PASS|SIGNATURE", re.IGNORECASE)
_NOT_SECRET = re.compile(
    r"KEY_?(?:PREFIX|FUNCTION|FILE)$|_(?:NAME|HEADER|CLASS|BACKEND|TIMEOUT|AGE|LIFETIME)$"
    r"|^(?:PASSWORD_HASHERS|AUTH_PASSWORD_VALIDATORS)$|^sha256$",
    re.IGNORECASE,
)


def secrets_of_settings() -> frozenset[str]:
    """Return every string of the settings that must not be shown."""
    found: set[str] = set()
    is_set = settings.is_overridden  # type: ignore[misc]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that are deprecated
        for name in filter(str.isupper, dir(settings)):
            if is_set(name) and not _NOT_SECRET.search(name):
                value = getattr(settings, name, None)
                found |= set(_secrets_in(name, value, _DEEPEST))
    route = getattr(settings, "MIGRATION_ROUTE", None)
    webhooks = route.get("WEBHOOKS", ()) if isinstance(route, Mapping) else ()
    # The address of a webhook is a secret: it is enough to post to it.
    for webhook in webhooks if isinstance(webhooks, list | tuple) else ():
        if isinstance(webhook, Mapping) and isinstance(webhook.get("url"), str):
            found.add(webhook["url"])
    return frozenset(found)


def _secrets_in(name: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in list(value.items())[:_LONGEST_LIST] if depth else ():
            if isinstance(key, str) and not _NOT_SECRET.search(key):
                yield from _secrets_in(key, inner, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in list(value)[:_LONGEST_LIST] if depth else ():
            yield from _secrets_in(name, inner, depth - 1)
    elif isinstance(value, bytes):
        yield from _secrets_in(name, value.decode(errors="replace"), depth)
    elif isinstance(value, str) and _is_secret(name, value):
        yield value


def _is_secret(name: str, value: str) -> bool:
    if _PASSWORD.search(name):
        return len(value) >= _SHORTEST
    if not _GUESSED.search(name) or len(value) < _SHORTEST_GUESSED:
        return False
    parts = value.split(".")  # the path of a class or a module is not a secret
    is_path = all(part.isidentifier() for part in parts) and parts[0] in sys.modules
    return not (is_path and len(parts) > 1)


@lru_cache(maxsize=1)
def redactor() -> Redactor:
    """Return the redactor of this project, built from its settings on first use."""
    return Redactor(secrets_of_settings())


def _forget(**_: Any) -> None:
    redactor.cache_clear()


setting_changed.connect(_forget, dispatch_uid="migration_route.core.redaction")


def redact(text: str, *, secrets: Iterable[str] | None = None) -> str:
    """Return a text with its secrets masked: those of the settings, or the ones given."""
    return (redactor() if secrets is None else Redactor(secrets)).text(text)


def clipped(text: str, limit: int) -> str:
    """Return a text masked, in UTF-8 that every database can store, and no longer than the
    limit except for the note of what was left out."""
    return storable(redactor().clipped(text, limit))


def storable(text: str) -> str:
    """Return a text without lone surrogates and without NUL, which PostgreSQL rejects."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\ufffd")


def masked_facts(facts: Any) -> Any:
    """Return a JSON value with the secrets in its strings masked, at any depth."""
    if isinstance(facts, str):
        shown = redact(facts)
        return facts if shown == facts else shown  # an enum member stays one
    if isinstance(facts, Mapping):
        return {key: masked_facts(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [masked_facts(value) for value in facts]
    return facts
