"""One attempt to deliver a message, by webhook or by email, and the delay before the next.

A webhook is one signed POST, without proxies and redirects. Email is sent with the
project's own email settings.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from django.core.mail import EmailMessage

from migration_route import __version__
from migration_route.conf.notifications import Mail, Webhook, WebhookFormat
from migration_route.notifications.messages import mail_text, slack_body
from migration_route.presentation.schemas.runs import NotificationMessage, to_json

HEADER = "Migration-Route-Signature"
_LATER = frozenset({408, 425, 429})  # 4xx, but not because of this message
_FIRST = timedelta(seconds=1)
_LONGEST = timedelta(minutes=15)
_LONGEST_RETRY_AFTER = timedelta(hours=1)
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailure:
    """A failed attempt, and why it failed."""

    error: str  # contains nothing from the recipient or the settings
    is_about_the_message: bool = False  # the recipient may accept others
    request: timedelta | None = None  # the recipient's Retry-After


def retry_delay(attempts: int, request: timedelta | None) -> timedelta:
    """Return the delay after this many attempts: it doubles each time, with jitter so that
    many recipients are not retried at once."""
    if request is not None:
        return min(max(request, _FIRST), _LONGEST_RETRY_AFTER) * _random.uniform(1.0, 1.2)
    doubled = min(_FIRST * float(2 ** min(attempts - 1, 20)), _LONGEST)
    return doubled * _random.uniform(0.7, 1.3)


def run_with_timeout(
    limit: timedelta,
    attempt: Callable[[], DeliveryFailure | None],
    stop: Callable[[], None],
) -> DeliveryFailure | None:
    """Make an attempt that takes no longer than the limit.

    A socket timeout is for each call: a server that sends one byte at a time, or a name
    server that does not respond, could block forever. `stop` is called in this thread when
    the limit is exceeded; what is still running then is abandoned.
    """
    answers: list[DeliveryFailure | None] = []

    def call() -> None:
        try:
            answers.append(attempt())
        except Exception as error:  # noqa: BLE001 - returned to the caller, by name only
            answers.append(DeliveryFailure(error=error_name(error)))

    thread = threading.Thread(target=call, name="delivery attempt", daemon=True)
    thread.start()
    thread.join(limit.total_seconds())
    if not answers:
        stop()
        return DeliveryFailure(error="TimeoutError: no response in time")
    return answers[0]


def error_name(error: BaseException) -> str:
    """Return the name of an error without its text, which may contain an address."""
    number = error.errno if isinstance(error, OSError) else None
    return type(error).__name__ + (f" {number}" if isinstance(number, int) else "")


def send_mail(mail: Mail, message: NotificationMessage) -> DeliveryFailure | None:
    """Send an email once; return None if the mail server accepted it."""
    email = EmailMessage(
        subject=f"{mail.subject_prefix}{message.summary}",
        body=mail_text(message),
        from_email=mail.sender,
        to=list(mail.to),
        headers={"Migration-Route-Event-Id": message.id},
    )

    def attempt() -> DeliveryFailure | None:
        return (
            None
            if email.send()
            else DeliveryFailure(error="the mail server accepted nothing")
        )

    return run_with_timeout(mail.timeout, attempt, lambda: None)


def signature(body: bytes, *, secrets: Iterable[str], seconds: int) -> str:
    """Return the value of the signature header: `t=1732000000,v1=…`, one `v1` per secret.

    Each is the HMAC-SHA256, in hexadecimal digits, of the seconds since the epoch, a dot
    and the body. Several secrets sign while one replaces another.
    """
    signed = b"%d." % seconds + body
    digests = [
        hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets
    ]
    return ",".join([f"t={seconds}", *(f"v1={digest}" for digest in digests)])


def post_webhook(webhook: Webhook, message: NotificationMessage) -> DeliveryFailure | None:
    """Post a message once; return None for a status from 200 to 299.

    Only the status and the headers of the response are read.
    """
    body = (slack_body if webhook.format is WebhookFormat.SLACK else to_json)(message)
    seconds = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"django-migration-route/{__version__}",
        "Migration-Route-Event": message.event,
        "Migration-Route-Event-Id": message.id,
        "Connection": "close",
    }
    if webhook.secrets:
        headers[HEADER] = signature(body, secrets=webhook.secrets, seconds=seconds)
    connection = _connection(webhook)

    def attempt() -> DeliveryFailure | None:
        try:
            connection.request("POST", _path(webhook), body=body, headers=headers)
            return _failure_of(connection.getresponse())
        finally:
            connection.close()

    def stop() -> None:
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    return run_with_timeout(webhook.timeout, attempt, stop)


def _connection(webhook: Webhook) -> http.client.HTTPConnection:
    found = urlsplit(webhook.url)
    seconds = webhook.timeout.total_seconds()
    host = found.hostname or ""
    if found.scheme == "http":
        return http.client.HTTPConnection(host, found.port, timeout=seconds)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, found.port, timeout=seconds, context=context)


def _path(webhook: Webhook) -> str:
    found = urlsplit(webhook.url)
    return (found.path or "/") + (f"?{found.query}" if found.query else "")


def _failure_of(response: http.client.HTTPResponse) -> DeliveryFailure | None:
    status = response.status
    if 200 <= status < 300:
        return None
    about_the_message = 400 <= status < 500 and status not in _LATER
    request = response.getheader("Retry-After", "")
    is_number = request.isdecimal() and request.isascii() and len(request) < 7
    return DeliveryFailure(
        error=f"HTTP {status}",
        is_about_the_message=about_the_message,
        request=timedelta(seconds=int(request)) if is_number else None,
    )
