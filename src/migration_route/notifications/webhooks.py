"""Delivery by webhook: one signed POST, without proxies and redirects."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from urllib.parse import urlsplit

from migration_route import __version__
from migration_route.conf.types import Webhook, WebhookFormat
from migration_route.notifications.messages import json_body, slack_body
from migration_route.notifications.retry import DeliveryFailure, run_with_timeout
from migration_route.presentation.schemas.runs import NotificationMessage

HEADER = "Migration-Route-Signature"


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


_LATER = frozenset({408, 425, 429})  # 4xx, but not because of this message


def post(webhook: Webhook, message: NotificationMessage) -> DeliveryFailure | None:
    """Post a message once; return None for a status from 200 to 299.

    Only the status and the headers of the response are read.
    """
    body = (slack_body if webhook.format is WebhookFormat.SLACK else json_body)(message)
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
    wish = response.getheader("Retry-After", "")
    is_number = wish.isdecimal() and wish.isascii() and len(wish) < 7
    return DeliveryFailure(
        error=f"HTTP {status}",
        is_about_the_message=about_the_message,
        wish=timedelta(seconds=int(wish)) if is_number else None,
    )
