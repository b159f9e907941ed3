"""Tests of machine tokens: their digests and their expiry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import RequestFactory

from migration_route.access.actors import authorise
from migration_route.access.authentication import authenticate, authenticate_token
from migration_route.core.credentials import digest_of, new_secret
from migration_route.core.enums import ActorKind, Scope
from migration_route.core.errors import Unauthenticated


def today() -> str:
    """Return today's date in UTC."""
    return datetime.now(UTC).date().isoformat()


def in_days(days: int) -> str:
    """Return a date relative to today, in UTC."""
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def request_with(authorization: str):
    """Return a request with this Authorization header."""
    return RequestFactory().get("/", headers={"Authorization": authorization})


def test_a_known_token_has_its_scopes():
    """No table is read: this test may not use a database."""
    actor = authenticate(request_with("Bearer deployer-secret"))
    assert (actor.kind, actor.name, actor.address) == (
        ActorKind.TOKEN,
        "deployer",
        "127.0.0.1",
    )
    assert actor.scopes == {Scope.APPLY, Scope.OPERATE}
    assert actor.access_error is None


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_the_scheme_may_be_written_in_any_case(scheme):
    """HTTP ignores the case (RFC 9110, 11.1)."""
    assert authenticate(request_with(f"{scheme} reader-secret")).access_error is None


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer wrong",
        "Bearer reader-secret2",
        "Bearer",
        "Bearer ",
        "reader-secret",
        "Basic cmVhZGVyOnNlY3JldA==",
        "Token reader-secret",
        "Bearer " + "x" * 501,
        "Bearer \xe4\xf6",
    ],
)
def test_any_other_header_is_nobody(authorization):
    """A wrong token is an error, and never falls back to a session."""
    actor = authenticate(request_with(authorization))
    assert actor.scopes == frozenset()
    with pytest.raises(Unauthenticated):
        authorise(actor, Scope.READ)


def test_the_digest_itself_opens_nothing():
    """The digest in the settings is not a secret."""
    assert authenticate_token(digest_of("reader-secret"), address="") is None


@pytest.mark.parametrize(
    ("expires", "is_good"),
    [(None, True), (in_days(2), True), (today(), False), (in_days(-1), False)],
)
def test_a_token_is_good_until_the_day_on_which_it_expires(settings, expires, is_good):
    """On that day it is no longer valid, and the error says so."""
    entry = {"name": "ci", "sha256": digest_of("x"), "scopes": ["read"], "expires": expires}
    settings.MIGRATION_ROUTE = {"TOKENS": [entry]}
    actor = authenticate_token("x", address="")
    assert actor is not None
    assert (actor.access_error is None) is is_good
    if not is_good:
        assert actor.access_error is not None
        assert "'ci' has expired" in actor.access_error.message


def test_a_token_whose_last_moment_is_set_can_be_used(settings):
    """A date with a time in the settings causes no error on use."""
    entry = {"name": "ci", "sha256": digest_of("x"), "scopes": ["read"]}
    moment = datetime.now(UTC) + timedelta(days=2)
    settings.MIGRATION_ROUTE = {"TOKENS": [{**entry, "expires": moment}]}
    actor = authenticate_token("x", address="")
    assert actor is not None
    assert actor.kind is ActorKind.TOKEN


def test_a_token_may_be_kept_to_some_databases(settings):
    entry = {"name": "ci", "sha256": digest_of("x"), "scopes": ["read"]}
    settings.MIGRATION_ROUTE = {"TOKENS": [{**entry, "databases": ["other"]}]}
    actor = authenticate_token("x", address="")
    assert actor is not None
    assert actor.databases == frozenset({"other"})


def test_a_new_secret_is_new_and_carries_its_mark():
    """Scanners recognize the prefix; the rest is random."""
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith("mrt_") and len(secret) == 47 for secret in secrets)
