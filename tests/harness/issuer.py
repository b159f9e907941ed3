"""An issuer of identity tokens: a real server on this machine, with real keys.

It publishes its metadata and keys over HTTP, as GitHub and GitLab do; a test can make it
fail.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "https://shop.example"
GITHUB = {
    "repository": "owner/shop",
    "repository_id": "4711",
    "ref": "refs/heads/main",
    "environment": "production",
    "sub": "repo:owner/shop:environment:production",
    "sha": "f" * 40,
    "actor": "ada",
    "workflow": "deploy",
    "run_id": "99",
    "run_attempt": "1",
}
"""The claims of a GitHub workflow run, as far as the tests use them."""

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


@dataclass
class Health:
    """The faults of the server."""

    status: int = 200
    padding: int = 0  # bytes of rubbish in each response
    drips: bool = False  # sends a byte at a time, for as long as the client reads
    hangs: threading.Event | None = None  # no response before this is set
    redirects_to: str = ""
    content: bytes | None = None  # returned instead of the correct document
    describes_itself_as: str = ""
    asked: list[str] = field(default_factory=list)  # the requested paths, in order


class Issuer:
    """An issuer with one key, and more after a rotation."""

    def __init__(self) -> None:
        self.health = Health()
        self.private: dict[str, Any] = {}
        self.published: list[dict[str, Any]] = []
        self.rotate("first")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def rotate(self, name: str, kind: str = "RS256", **words: Any) -> None:
        """Sign with a new key from now on, and publish it as the only one."""
        self.private = {}
        self.published = []
        self.add(name, kind, **words)

    def add(
        self, name: str, kind: str = "RS256", *, bits: int = 2048, **words: Any
    ) -> None:
        """Publish an additional key."""
        key, public = _new_key(kind, bits)
        self.private[name] = (key, kind)
        self.published.append({**public, "kid": name, "use": "sig", "alg": kind, **words})

    def token(
        self,
        key: str = "",
        *,
        headers: dict[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """Return a token that is valid except for these claims and headers."""
        name = key or next(iter(self.private))
        private, algorithm = self.private[name]
        words = self.claims(**claims)
        for left_out in without:
            del words[left_out]
        return jwt.encode(
            words, private, algorithm=algorithm, headers={"kid": name, **(headers or {})}
        )

    def claims(self, **claims: Any) -> dict[str, Any]:
        """Return the claims of a valid token, with these changes."""
        now = int(time.time())
        return {
            "iss": self.address,
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": f"id-{time.time_ns()}",
            **GITHUB,
            **claims,
        }

    def public_pem(self, name: str = "first") -> bytes:
        """Return a public key in PEM format."""
        public = self.private[name][0].public_key()
        content: bytes = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return content

    def stop(self) -> None:
        """Stop the server."""
        if self.health.hangs is not None:
            self.health.hangs.set()
        self.health.drips = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _new_key(kind: str, bits: int) -> tuple[Any, dict[str, Any]]:
    key: Any
    if kind == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
        return key, ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    if kind == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
        return key, OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return key, RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            health = issuer.health
            health.asked.append(self.path)
            if health.hangs is not None:
                health.hangs.wait(30)
            if health.redirects_to:
                self.send_response(302)
                self.send_header("Location", health.redirects_to + self.path)
                self.end_headers()
                return
            words: dict[str, Any] = {"keys": issuer.published}
            if self.path == DISCOVERY:
                words = {
                    "issuer": health.describes_itself_as or issuer.address,
                    "jwks_uri": issuer.address + KEYS,
                }
            content = health.content or json.dumps(words).encode()
            self.send_response(health.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            while health.drips:
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)
            self.wfile.write(b" " * health.padding + content)

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # the client has disconnected

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            del format, arguments

    return Handler
