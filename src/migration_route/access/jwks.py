"""Fetches and caches the keys of issuers; each fetch is limited in time and in size."""

from __future__ import annotations

import http.client
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
)

import msgspec

from migration_route.access.actors import IssuerUnavailable
from migration_route.conf.oidc import Issuer, may_be_fetched

FETCH_TIMEOUT = 4.0
"""Seconds for one response, from the first byte sent to the last byte received."""

MAX_RESPONSE_BYTES = 256 * 1024
"""Maximum size of a response in bytes."""

_CHUNK = 16 * 1024


class JwksFetchError(Exception):
    """Fetching the keys failed; the message is for the server log."""


def fetch_keys(issuer: Issuer) -> dict[str, Any]:
    """Return the key set of an issuer. Raises `JwksFetchError`.

    Its address is in the settings or in the issuer's discovery document (OpenID Connect
    Discovery 1.0, section 4), whose `issuer` must be identical to the configured address.
    """
    if issuer.jwks_uri is not None:
        return _fetch(issuer.jwks_uri)
    discovery = _fetch(f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration")
    if discovery.get("issuer") != issuer.issuer:
        raise JwksFetchError(
            f"{issuer.issuer}: the discovery document names another issuer"
        )
    address = discovery.get("jwks_uri")
    if not isinstance(address, str) or not may_be_fetched(
        address, insecure=issuer.insecure
    ):
        raise JwksFetchError(
            f"{issuer.issuer}: the discovery document names no https address of its keys"
        )
    return _fetch(address)


def _fetch(address: str) -> dict[str, Any]:
    try:
        content = _read(address)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise JwksFetchError(f"{address}: {type(error).__name__}: {error}") from error
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise JwksFetchError(f"{address}: the response is not JSON") from error
    if not isinstance(document, dict):
        raise JwksFetchError(f"{address}: the response is not a JSON object")
    return document


def _read(address: str) -> bytes:
    deadline = time.monotonic() + FETCH_TIMEOUT
    sockets: list[socket.socket] = []
    request = Request(  # noqa: S310 - `may_be_fetched` has checked the scheme
        address, headers={"Accept": "application/json"}
    )
    with (
        _closed_at(deadline, sockets),
        _opener(sockets).open(request, timeout=FETCH_TIMEOUT) as response,
    ):
        content = b""
        while chunk := response.read(_CHUNK):
            content += chunk
            if len(content) > MAX_RESPONSE_BYTES:
                raise JwksFetchError(f"{address}: more than {MAX_RESPONSE_BYTES} bytes")
        if time.monotonic() > deadline:
            raise JwksFetchError(f"{address}: no complete response in {FETCH_TIMEOUT:g} s")
        return content


@contextmanager
def _closed_at(deadline: float, sockets: list[socket.socket]) -> Iterator[None]:
    """Shut the connections down at a deadline.

    A server that keeps sending single bytes never exceeds the timeout of a socket.
    """

    def shut_down() -> None:
        for connection in sockets:
            with suppress(OSError):
                # Below TLS: another thread may be reading through it.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0), shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects: they could lead to another host, or to http."""

    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        del arguments, keywords


def _opener(sockets: list[socket.socket]) -> OpenerDirector:
    """Return an opener that collects its sockets, and uses proxies of the environment."""

    class PlainConnection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class Plain(HTTPHandler):
        def http_open(self, req: Request) -> Any:
            return self.do_open(PlainConnection, req)

    class Secure(HTTPSHandler):
        def https_open(self, req: Request) -> Any:
            return self.do_open(SecureConnection, req)

    return build_opener(Plain, Secure, _NoRedirects)


logger = logging.getLogger("migration_route.access")

FRESH_SECONDS = 60 * 60.0
"""Seconds for which cached keys are used without a fetch."""

STALE_SECONDS = 24 * 60 * 60.0
"""Seconds for which cached keys are used while their issuer is unavailable."""

REFETCH_SECONDS = 60.0
"""Seconds between two fetches from one issuer: anyone can send a token with an unknown
key."""

_SMALLEST_RSA = 2048  # bits (RFC 7518, 3.3)


class UnknownKey(Exception):
    """The issuer has no key with this id."""


class JwksCache:
    """The cached keys of one issuer. Keys of the settings are never fetched, and always
    fresh."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self._fetching = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._fetched_at = self._tried_at = -math.inf
        if issuer.jwks is not None:
            self._fetched_at = self._tried_at = math.inf
            try:
                self._keys = usable_keys(issuer.jwks, issuer)
            except JwksFetchError as error:
                logger.warning("OIDC: %s", error)

    def find(self, name: str) -> Any:
        """Return the key with this id. Raises `UnknownKey` and `IssuerUnavailable`."""
        if name not in self._keys or self._age() > FRESH_SECONDS:
            self._refresh(name)
        if self._age() > STALE_SECONDS:
            raise IssuerUnavailable(
                f"The keys of {self.issuer.issuer} cannot be fetched, and no recent ones "
                "are cached."
            )
        if name not in self._keys:
            raise UnknownKey
        return self._keys[name]

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    def _is_due(self) -> bool:
        return time.monotonic() - self._tried_at >= REFETCH_SECONDS

    def _refresh(self, name: str) -> None:
        """Fetch the keys if that is due, in one thread at a time.

        Other threads wait only if the cached keys are not sufficient.
        """
        if not self._is_due() and not self._fetching.locked():
            return
        is_sufficient = name in self._keys and self._age() <= STALE_SECONDS
        if not self._fetching.acquire(timeout=0 if is_sufficient else 2 * FETCH_TIMEOUT):
            return
        try:
            if not self._is_due():
                return  # another thread has fetched them meanwhile
            self._tried_at = time.monotonic()
            self._keys = usable_keys(fetch_keys(self.issuer), self.issuer)
            self._fetched_at = time.monotonic()
        except JwksFetchError as error:
            logger.warning("Fetching the keys of %s failed: %s", self.issuer.issuer, error)
        finally:
            self._fetching.release()


def usable_keys(found: Mapping[str, Any], issuer: Issuer) -> dict[str, Any]:
    """Return the keys that can verify a signature, by id, each with its algorithm.

    Raises `JwksFetchError` if there are none.
    """
    listed = found.get("keys")
    keys: dict[str, Any] = {}
    for jwk in listed if isinstance(listed, list) else ():
        name = jwk.get("kid") if isinstance(jwk, dict) else None
        if isinstance(name, str) and (key := _usable_key(jwk, issuer)) is not None:
            keys[name] = key
    if not keys:
        raise JwksFetchError(f"{issuer.issuer} has no usable key")
    return keys


def _usable_key(jwk: dict[str, Any], issuer: Issuer) -> Any:
    """Return a key with its algorithm, or None if it cannot be used.

    The algorithm is never taken from the token, and is never a symmetric one, whose key
    the caller would have as well.
    """
    import jwt

    if jwk.get("use", "sig") != "sig":
        return None
    kind, curve = str(jwk.get("kty")), str(jwk.get("crv", ""))
    algorithm = str(jwk.get("alg") or _ALGORITHM_OF.get((kind, curve)))
    if algorithm not in issuer.algorithms or _KIND_OF[algorithm[:2]] != kind:
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if getattr(key.key, "key_size", _SMALLEST_RSA) < _SMALLEST_RSA and algorithm[0] in "RP":
        return None
    return key


_ALGORITHM_OF: dict[tuple[str, str], str] = {
    ("RSA", ""): "RS256",
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
_KIND_OF = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
