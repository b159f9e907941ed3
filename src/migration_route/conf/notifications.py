"""Reads WEBHOOKS and EMAIL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from migration_route.conf.types import Mail, Webhook, WebhookFormat
from migration_route.core.clock import duration
from migration_route.core.events import DEFAULT_EVENT_TYPES, EventType

Read = TypeVar("Read", Webhook, Mail)

_LONGEST_NAME = 60
_LONGEST_TIMEOUT = timedelta(seconds=60)
_SHORTEST_SECRET = 16
_COMMON = ("events", "databases", "timeout", "give_up", "name")
WEBHOOK_KEYS = ("url", "secret", "secrets", "format", "insecure", *_COMMON)
EMAIL_KEYS = ("to", "from", "subject_prefix", *_COMMON)


def read_webhooks(value: Any) -> tuple[tuple[Webhook, ...], list[str]]:
    """Read WEBHOOKS, a list of dicts; return them with their problems.

    No problem repeats a value: an address or a secret must not end up in a log.
    """
    found, problems = _read_all("WEBHOOKS", value, _webhook)
    return tuple(found), problems


def read_mail(value: Any) -> tuple[tuple[Mail, ...], list[str]]:
    """Read EMAIL, a dict or a list of dicts; return them with their problems."""
    entries = [value] if isinstance(value, Mapping) else value
    found, problems = _read_all("EMAIL", entries, _mail)
    return tuple(found), problems


def _read_all(
    key: str, entries: Any, read: Callable[[Any], Read]
) -> tuple[list[Read], list[str]]:
    if not isinstance(entries, list | tuple):
        return [], [f"{key} must be a list of dicts."]
    found: list[Read] = []
    problems: list[str] = []
    for position, entry in enumerate(entries):
        try:
            if not isinstance(entry, Mapping):
                raise ValueError("must be a dict.")  # noqa: TRY004, TRY301 - an invalid value
            read_one = read(entry)
            if read_one.name in {other.name for other in found}:
                raise ValueError("'name' must be unique.")  # noqa: TRY301
            found.append(read_one)
        except ValueError as error:
            problems.append(f"{key}[{position}]: {error}")
    return found, problems


def _webhook(entry: Mapping[str, Any]) -> Webhook:
    _check_keys(entry, WEBHOOK_KEYS)
    insecure = entry.get("insecure", False)
    if not isinstance(insecure, bool):
        raise ValueError("'insecure' must be True or False.")  # noqa: TRY004
    url = entry.get("url")
    host = _host(url, may_be_plain=insecure)
    form = entry.get("format", WebhookFormat.JSON)
    if form not in list(WebhookFormat):
        raise ValueError(f"'format' must be {' or '.join(WebhookFormat)}.")
    mark = hashlib.sha256(str(url).encode()).hexdigest()[:8]
    return Webhook(
        url=str(url),
        secrets=_secrets(entry),
        format=WebhookFormat(form),
        insecure=insecure,
        **_common(entry, usual_name=f"{host[: _LONGEST_NAME - 9]}-{mark}"),
    )


def _mail(entry: Mapping[str, Any]) -> Mail:
    _check_keys(entry, EMAIL_KEYS)
    to, sender = entry.get("to"), entry.get("from")
    to = [to] if isinstance(to, str) else to
    if not isinstance(to, list | tuple) or not to or not all(map(_is_address, to)):
        raise ValueError("'to' must be a list of email addresses.")
    if sender is not None and not _is_address(sender):
        raise ValueError("'from' must be an email address.")
    prefix = entry.get("subject_prefix", "[migrations] ")
    if not isinstance(prefix, str) or not prefix.isprintable():
        raise ValueError("'subject_prefix' must be a one-line string.")
    common = _common(entry, usual_name="mail")
    return Mail(to=tuple(to), sender=sender, subject_prefix=prefix, **common)


def _is_address(given: Any) -> bool:
    return isinstance(given, str) and "@" in given and given.isprintable()


def _check_keys(entry: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(str(key) for key in set(entry) - set(known))
    if unknown:
        raise ValueError(f"unknown keys {unknown}. Valid keys: {', '.join(known)}.")


def _host(url: Any, *, may_be_plain: bool) -> str:
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("'url' must be a string of printable ASCII without spaces.")
    try:
        found = urlsplit(url)
        host, _ = found.hostname, found.port
    except ValueError:
        raise ValueError("'url' is not a valid URL.") from None
    if found.scheme not in {"https", "http"} or not host:
        raise ValueError("'url' must start with https:// and name a host.")
    if found.scheme == "http" and not may_be_plain:
        raise ValueError("'url' must use https. To allow http, set \"insecure\": True.")
    if found.username is not None or found.password is not None:
        raise ValueError("'url' must not contain credentials. Use 'secret' to sign.")
    return host


def _secrets(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if "secret" in entry and "secrets" in entry:
        raise ValueError("'secret' and 'secrets' cannot both be set.")
    found = [entry["secret"]] if "secret" in entry else entry.get("secrets", ())
    is_good = isinstance(found, list | tuple) and all(
        isinstance(each, str) and len(each) >= _SHORTEST_SECRET for each in found
    )
    if not is_good:
        raise ValueError(
            f"each secret must be a string of at least {_SHORTEST_SECRET} characters."
        )
    return tuple(found)


def _common(entry: Mapping[str, Any], *, usual_name: str) -> dict[str, Any]:
    name = entry.get("name", usual_name)
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or not 0 < len(name) <= _LONGEST_NAME
    ):
        raise ValueError(f"'name' must be a string of 1 to {_LONGEST_NAME} characters.")
    timeout = _length(entry, "timeout", "10s")
    if timeout > _LONGEST_TIMEOUT:
        raise ValueError("'timeout' must be at most '60s'.")
    return {
        "name": name,
        "events": _events(entry.get("events")),
        "databases": _databases(entry.get("databases")),
        "timeout": timeout,
        "give_up": _length(entry, "give_up", "24h"),
    }


def _length(entry: Mapping[str, Any], key: str, usual: str) -> timedelta:
    try:
        found = duration(entry.get(key, usual))
    except (ValueError, AttributeError, TypeError, OverflowError):
        found = timedelta(0)
    if not found:
        raise ValueError(f"{key!r} must be a duration such as {usual!r}.")
    return found


def _events(given: Any) -> frozenset[EventType]:
    if given is None:
        return DEFAULT_EVENT_TYPES
    if given == "*":
        return frozenset(EventType)
    is_list = isinstance(given, list | tuple | set | frozenset) and bool(given)
    if not is_list or any(each not in list(EventType) for each in given):
        raise ValueError(f"'events' must be \"*\" or a list of {', '.join(EventType)}.")
    return frozenset(map(EventType, given))


def _databases(given: Any) -> frozenset[str] | None:
    if given is None:
        return None
    is_list = isinstance(given, list | tuple | set | frozenset)
    if not is_list or not all(isinstance(alias, str) for alias in given):
        raise ValueError("'databases' must be a list of aliases.")
    return frozenset(given)
