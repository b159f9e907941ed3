"""Tests that the token is sent to the API only, and that incomplete responses are
rejected."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from tests.client.conftest import Answers
from tests.client.test_answers import STATUS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a self-signed certificate for 127.0.0.1, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    words += ["-keyout", file, "-out", file.with_name("public.pem")]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    file.write_text(file.read_text() + file.with_name("public.pem").read_text())
    return file


def test_a_certificate_is_always_verified(server, call, certificate, tmp_path):
    """An untrusted one fails at once, whatever the timeout; `--ca` trusts it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    server.say("GET status", STATUS)
    url = server.url.replace("http:", "https:")
    said = call("status", "--url", url, "--patience", "60s")
    assert (said.code, "--ca" in said.error) == (8, True)
    assert server.asked == []
    public = certificate.with_name("public.pem")
    assert call("status", "--url", url, "--ca", str(public)).code == 0
    for wrong in (tmp_path / "none", tmp_path):
        assert call("status", "--url", url, "--ca", str(wrong)).code == 2


def test_a_token_without_encryption_is_told(call):
    """Except to this host."""
    said = call("status", "--url", "http://route.invalid/")
    assert (said.code, "without encryption" in said.error) == (8, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"build": "o',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5a\r\n{",
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ],
)
def test_an_answer_that_broke_off_is_none(call, answer):
    """Wherever it was cut; the request is repeated until the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        said = call("status", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        serving.join(20)
    assert said.code == 8, said


def test_a_server_that_says_nothing_is_not_waited_for(call):
    """Not longer than `--timeout`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        said = call("status", "--url", url, "--timeout", "500ms")
        assert (said.code, "timed out" in said.error) == (8, True)
    assert call("status", "--timeout", "0s").code == 2


def test_proxies_of_the_environment_are_used(server, other, call, monkeypatch):
    """As expected in pipelines behind one."""
    other.answers["GET", "http://route.invalid/m/api/v1/status"] = [Answers(body=STATUS)]
    monkeypatch.setenv("http_proxy", other.origin)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert call("status", "--url", "http://route.invalid/m/").code == 0
    assert server.asked == []
