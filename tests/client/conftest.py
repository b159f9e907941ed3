"""A fake server for the tests of the client, which sends the responses that a test sets.

The responses of a real server are covered by `tests/e2e/test_client.py`; here they are
those of a server of another version, or of a proxy.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from migration_route.cli.remote.main import main


@dataclass
class Said:
    """The output of the client, and its exit code."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        """Return the JSON that it printed."""
        return json.loads(self.out)


@dataclass
class Asked:
    """A request, as received."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Answers:
    """The responses of a path: one after the other, the last one repeatedly."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Server:
    """An HTTP server on loopback; the test fills `answers`."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[Answers]] = {}
        self.asked: list[Asked] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.origin = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.origin}/m/"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def say(self, call: str, *answers: Any) -> None:
        """Set the responses of a call, such as "GET status": bodies, or `Answers`."""
        method, path = call.split(" ")
        self.answers[method, f"/m/api/v1/{path}"] = [
            found if isinstance(found, Answers) else Answers(body=found)
            for found in answers
        ]

    def calls(self, call: str) -> list[Asked]:
        """Return the requests of this call."""
        return [
            asked
            for asked in self.asked
            if f"{asked.method} {asked.path.removeprefix('/m/api/v1/')}" == call
        ]

    def close(self) -> None:
        """Stop the server."""
        self.http.shutdown()
        self.http.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - two of them
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                self._answer(json.loads(self.rfile.read(length) or b"null"))

            def _answer(self, body: Any) -> None:
                path = self.path.partition("?")[0]
                server.asked.append(
                    Asked(self.command, path, dict(self.headers.items()), body)
                )
                waiting = server.answers.get((self.command, path)) or [
                    Answers(404, "nothing", {"Content-Type": "text/plain"})
                ]
                found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                said = found.body
                content = (
                    said.encode() if isinstance(said, str) else json.dumps(said).encode()
                )
                self.send_response(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server with the responses that the test sets."""
    with contextlib.closing(Server()) as found:
        yield found


@pytest.fixture
def other() -> Iterator[Server]:
    """Yield another one, which must not receive requests."""
    with contextlib.closing(Server()) as found:
        yield found


@pytest.fixture
def call(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Return a function that runs the client in this process."""
    monkeypatch.setenv("MIGRATION_ROUTE_URL", server.url)
    monkeypatch.setenv("MIGRATION_ROUTE_TOKEN", "a-token")

    def call(*words: str) -> Said:
        capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert "a-token" not in said.out + said.err
        return Said(code, said.out, said.err)

    return call
