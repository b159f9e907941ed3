"""HTTP requests of the remote client.

Each request uses a new connection: a kept one would stay with one process behind the
address, and would break when that process is replaced. Certificates are always verified,
and the token is only sent to the origin of `--url`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import URLError
from urllib.parse import SplitResult, urljoin, urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

import msgspec

from migration_route import __version__
from migration_route.core.errors import InvalidRequest, RouteError, Unauthenticated
from migration_route.presentation.text.exit_codes import UNREACHABLE

API = "api/v1/"
BUILD_HEADER = "Migration-Route-Build"
_REDIRECTS = {301, 302, 303, 307, 308}
_KEEPING_THE_METHOD = {307, 308}
_MOST_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}


class Unreachable(RouteError):
    """The server does not respond."""

    code = "unreachable"
    http_status = 503
    exit_code = UNREACHABLE
    is_passing = True  # a retry may succeed
    was_sent = True  # the request may have arrived


class NotTrusted(Unreachable):
    """The certificate of the server is not trusted."""

    hint = "Use --ca with the file of the authority that signed it."
    is_passing = False
    was_sent = False


class NotAMigrationRoute(InvalidRequest):
    """The server at this address is not a migration route."""

    code = "not_the_route"
    http_status = 404
    hint = (
        "Set --url to where the project mounts it, as in https://example.com/migrations/."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    body: bytes
    build: str | None  # of the code that responded; None: not migration_route
    url: str


def api_address(url: str) -> str:
    """Return the address of the API below a mount point. Raises `InvalidRequest`."""
    parts = urlsplit(url)
    try:
        is_whole = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or parts.query or parts.fragment:
        raise InvalidRequest(
            "--url or MIGRATION_ROUTE_URL must be the address at which the project mounts "
            "migration_route, such as https://example.com/migrations/."
        )
    if "@" in parts.netloc:
        raise InvalidRequest(
            "The address must not contain credentials: other users can see it.",
            hint="Set MIGRATION_ROUTE_TOKEN to the token.",
        )
    path = parts.path.rstrip("/") + "/"
    return parts._replace(path=path.removesuffix(API) + API).geturl()


def checked_token(token: str) -> str:
    """Return the token without surrounding white space. Raises `Unauthenticated` without
    one, `InvalidRequest` for an invalid one."""
    token = token.strip()
    if not token:
        raise Unauthenticated(
            "The token is missing.",
            hint="Set the variable MIGRATION_ROUTE_TOKEN; 'migration-route token new' "
            "creates a token.",
        )
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidRequest("MIGRATION_ROUTE_TOKEN is not a valid token.")
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """Sends requests to one server; errors name the address, never the token."""

    address: str
    token: str = field(repr=False)
    timeout: float  # seconds without a byte
    ca: Path | None = None

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request and return the response, whatever its status.

        Raises `Unreachable`, and `NotAMigrationRoute` for a redirect that is not followed.
        """
        with self.opened(method, path, body=body, headers=headers or {}) as response:
            is_framed = response.chunked or response.length is not None
            body = response.read()
            if not is_framed and not _is_json(body):
                # If the headers are cut off as well, nothing else shows it.
                raise Unreachable(f"The response of {self.address} is incomplete.")
            return Reply(
                status=response.status,
                body=body,
                build=response.headers.get(BUILD_HEADER),
                url=response.url,
            )

    @contextmanager
    def opened(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str],
    ) -> Iterator[HTTPResponse]:
        """Open a response for reading; errors while reading are `Unreachable` too."""
        url = self.address + path
        opener = self._opener()
        try:
            for _ in range(_MOST_REDIRECTS):
                response = self._open(opener, method, url, body, headers)
                with response:
                    if response.status not in _REDIRECTS:
                        yield response
                        return
                    url = self._redirected(method, url, response)
        except (OSError, HTTPException) as error:
            raise _unreachable(error, self.address) from error
        raise NotAMigrationRoute(f"{self.address} redirects too often.")

    def _open(
        self,
        opener: OpenerDirector,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> HTTPResponse:
        request = Request(  # noqa: S310 - the opener handles http and https only
            url,
            data=body,
            method=method,
            headers={
                "Accept": "application/json, application/jsonl, application/zip, "
                "application/problem+json",
                "Authorization": f"Bearer {self.token}",
                "User-Agent": f"migration-route/{__version__}",
                **({"Content-Type": "application/json"} if body is not None else {}),
                **headers,
            },
        )
        response = opener.open(request, timeout=self.timeout)
        assert isinstance(response, HTTPResponse)  # noqa: S101 - there is no other handler
        return response

    def _opener(self) -> OpenerDirector:
        """Return an opener for http and https that uses the proxies of the environment,
        follows no redirect and returns error responses."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise InvalidRequest(
                f"--ca: certificates cannot be read from {self.ca}: {error}."
            ) from error
        opener = OpenerDirector()
        for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler(context=context)):
            opener.add_handler(handler)
        return opener

    def _redirected(self, method: str, url: str, response: HTTPResponse) -> str:
        """Return the target of a redirect. Raises `NotAMigrationRoute` for another origin,
        which must not get the token, and if the method would change."""
        target = urljoin(url, response.headers.get("Location", ""))
        is_kept = method == "GET" or response.status in _KEEPING_THE_METHOD
        if is_kept and _origin(urlsplit(target)) == _origin(urlsplit(url)):
            return target
        raise NotAMigrationRoute(
            f"{self.address} redirects to {target[:200]}; the token is not sent there.",
            hint="If that is the right address, use it as --url.",
        )


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _unreachable(error: Exception, address: str) -> Unreachable:
    """Return an error that says in one line why there was no response."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotTrusted(f"{address}: {cause.verify_message}.")
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    found = Unreachable(f"{address} does not respond: {reason}.")
    found.was_sent = not isinstance(cause, ConnectionRefusedError | socket.gaierror)
    return found
