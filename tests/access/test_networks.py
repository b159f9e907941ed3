"""Tests of the allowed client addresses, and of trusted proxies."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.test import Client, RequestFactory

from migration_route.access.authentication import authenticate
from migration_route.access.networks import UNKNOWN_ADDRESS, client_address
from migration_route.conf import read_settings
from migration_route.core.credentials import digest_of, read_networks
from migration_route.ledger.queries import list_entries

API = "/migrations/api/v1/"
DEPLOYER = "deployer-secret"
OFFICE = "192.0.2.0/24"
PROXIES = {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]}


def address(networks, remote, forwarded=None, header="HTTP_X_FORWARDED_FOR"):
    """Return the client address that is derived from a request."""
    found, problems = read_networks(networks)
    assert problems == []
    meta = {"REMOTE_ADDR": remote}
    if forwarded is not None:
        meta[header] = forwarded
    return client_address(meta, found)


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),  # from an untrusted client
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # from a trusted proxy
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.7", "10.0.0.3"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", " , ", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1, nonsense", UNKNOWN_ADDRESS),
        ("10.0.0.1", "192.0.2.1, unknown, 10.0.0.7", UNKNOWN_ADDRESS),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("fd00::1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("nonsense", None, UNKNOWN_ADDRESS),
        ("", "203.0.113.9", ""),  # a socket is no proxy unless configured
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_callers(
    remote, forwarded, expected
):
    """Any client can forge what comes before it in the header."""
    assert address(PROXIES, remote, forwarded) == expected


def test_a_socket_may_be_a_trusted_proxy():
    """As where nginx and the server share a host."""
    networks = {"trusted_proxies": ["unix"]}
    assert address(networks, "", "203.0.113.9") == "203.0.113.9"
    assert address(networks, "192.0.2.1", "203.0.113.9") == "192.0.2.1"


def test_a_proxy_may_use_a_header_of_its_own():
    """Then no other header is used."""
    networks = {**PROXIES, "header": "X-Real-IP"}
    assert address(networks, "10.0.0.1", "192.0.2.1") == "10.0.0.1"
    assert address(networks, "10.0.0.1", "192.0.2.1", "HTTP_X_REAL_IP") == "192.0.2.1"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("10.0.0.0/8", "must be a list"),
        (["10.0.0.1/8"], "has host bits set"),
        (["10.0.0.0/8", "office"], "is not a network"),
        ([10], "is not a network"),
        ({"changes": []}, "'changes' is not a known key"),
        ({"change": "unix"}, "must be a list"),
        ({"trusted_proxies": ["x"]}, "is not a network"),
        ({"trusted_proxies": [], "header": "X Y"}, "name of a header"),
        ({"trusted_proxies": [], "header": "Forwarded"}, "cannot be 'Forwarded'"),
        ({"header": "X-Real-IP"}, "without 'trusted_proxies'"),
    ],
)
def test_what_is_wrong_is_named_and_lets_nobody_in(value, word):
    """An invalid list allows no address."""
    found = read_settings({"NETWORKS": value})
    assert any(word in problem for problem in found.problems)
    if not isinstance(value, dict) or "change" in value:
        assert found.networks.change is not None
        assert not found.networks.change.holds("203.0.113.9")


def test_nothing_set_lets_everybody_in():
    """An empty list also turns NETWORKS off."""
    values: tuple[Any, ...] = ((), [], None)
    for value in values:
        networks = read_settings({"NETWORKS": value}).networks
        assert (networks.change, networks.read) == (None, None)


@pytest.fixture
def networks(settings):
    """Return a function that sets NETWORKS."""

    def put(value):
        settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "NETWORKS": value}

    return put


def call(path, *, remote, method="get", token=DEPLOYER, **words):
    """Call the API from an address."""
    if token:
        words["headers"] = {"Authorization": f"Bearer {token}"}
    return getattr(Client(), method)(API + path, REMOTE_ADDR=remote, **words)


def codes(path, method="get", **words):
    """Return the results of calls from the office, from elsewhere and over a socket."""
    return [
        call(path, remote=remote, method=method, **words).status_code
        for remote in ("192.0.2.1", "203.0.113.9", "")
    ]


@pytest.mark.usefixtures("database")
def test_a_list_is_about_what_changes_something(networks):
    """Reading is allowed from elsewhere."""
    networks([OFFICE])
    words = {"data": "{}", "content_type": "application/json"}
    assert codes("runs", "post", **words) == [428, 403, 403]
    assert codes("status") == [200, 200, 200]


@pytest.mark.usefixtures("database")
def test_reading_can_be_limited_too_and_ready_is_open(networks):
    """A load balancer may connect from anywhere."""
    networks({"read": [OFFICE, "unix"]})
    words = {"data": "{}", "content_type": "application/json"}
    assert codes("status") == [200, 403, 200]
    assert codes("runs", "post", **words) == [428, 403, 428]
    assert codes("ready", token="") == [200, 200, 200]
    assert codes("status", token="") == [401, 403, 401]
    assert Client().get("/migrations/", REMOTE_ADDR="203.0.113.9").status_code == 403


@pytest.mark.usefixtures("database")
def test_a_wrong_network_is_told_nothing_and_is_on_the_ledger(networks):
    """The response does not reveal whether the token is valid."""
    from migration_route.ledger.bootstrap import install

    install()
    networks({"read": [OFFICE]})
    answers = [call("status", remote="203.0.113.9", token=t).json() for t in ("x", "y")]
    known = call("status", remote="203.0.113.9").json()
    assert {answer["code"] for answer in [*answers, known]} == {"forbidden"}
    assert {answer["detail"] for answer in [*answers, known]} == {
        "Reads are not allowed from 203.0.113.9."
    }
    denied = [e for e in list_entries(before=None, limit=9) if e.action == "denied"]
    assert {(e.actor_name, e.address) for e in denied} == {
        ("", "203.0.113.9"),
        ("deployer", "203.0.113.9"),
    }


def test_a_token_may_have_networks_of_its_own(settings):
    """It is valid from these only."""
    entry = {"name": "ci", "sha256": digest_of("x"), "scopes": ["read"]}
    settings.MIGRATION_ROUTE = {"TOKENS": [{**entry, "networks": [OFFICE]}]}
    for remote, is_good in (("192.0.2.1", True), ("203.0.113.9", False), ("", False)):
        request = RequestFactory().get(
            "/", headers={"Authorization": "Bearer x"}, REMOTE_ADDR=remote
        )
        assert (authenticate(request).access_error is None) is is_good


def test_no_session_is_looked_up_for_a_wrong_network(networks):
    """No table is read: this test may not use a database."""
    networks({"read": [OFFICE]})
    request = RequestFactory().get("/", REMOTE_ADDR="203.0.113.9")
    request.user = cast(
        Any, property(lambda self: pytest.fail("the session was looked up"))
    )
    access_error = authenticate(request).access_error
    assert access_error is not None
    assert access_error.code == "forbidden"
