"""Tests that an identity token is accepted only when all of it is valid."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import jwt
import pytest
from django.test import Client, RequestFactory

from migration_route.access import jwks, oidc
from migration_route.access.authentication import authenticate
from migration_route.core.enums import ActorKind, Scope
from migration_route.ledger.bootstrap import install
from migration_route.ledger.queries import list_entries
from tests.factories import at_once
from tests.harness.issuer import AUDIENCE, DISCOVERY, KEYS, Issuer


@pytest.fixture
def issuer():
    """Yield an issuer without faults."""
    found = Issuer()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    oidc._caches.clear()
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT", 1.0)
    yield
    oidc._caches.clear()


@pytest.fixture
def trusted(issuer, settings):
    """Configure the settings to accept its tokens; call it again to change them."""

    def put(*others, **words):
        entry = {
            "name": "github",
            "issuer": issuer.address,
            "insecure": True,
            "audience": AUDIENCE,
            "claims": {"repository": "owner/shop", "ref": "refs/heads/main"},
            "scopes": ["apply"],
            **words,
        }
        settings.MIGRATION_ROUTE = {
            **settings.MIGRATION_ROUTE,
            "OIDC": [entry, *({**entry, **other} for other in others)],
        }

    put()
    return put


def actor_of(token, **words):
    """Return the actor that is authenticated by a token."""
    words.setdefault("headers", {"Authorization": f"Bearer {token}"})
    return authenticate(RequestFactory().get("/", **words))


def is_taken(token):
    """Return whether the token is accepted."""
    actor = actor_of(token)
    if actor.access_error is not None:
        assert not actor.scopes
    return actor.access_error is None


def test_a_good_token_names_its_pipeline(issuer, trusted):
    """No table is read: this test may not use a database."""
    actor = actor_of(issuer.token(jti="one"))
    assert actor.access_error is None
    assert (actor.kind, actor.name) == (
        ActorKind.TOKEN,
        "github:owner/shop@refs/heads/main",
    )
    assert actor.scopes == {Scope.APPLY}
    facts = actor.credential.facts()
    assert facts["id"] == "github:one"
    assert facts["claims"]["run_id"] == "99"
    assert facts["claims"]["sha"] == "f" * 40
    assert issuer.health.asked == [DISCOVERY, KEYS]


@pytest.mark.parametrize("kind", ["RS256", "RS512", "PS256", "ES256", "EdDSA"])
def test_the_key_decides_the_algorithm(issuer, trusted, kind):
    issuer.rotate("it", kind)
    assert is_taken(issuer.token())


NOW = time.time
WRONG = {
    "another audience": lambda i: i.token(aud="https://elsewhere.example"),
    "an audience that begins alike": lambda i: i.token(aud=AUDIENCE + ".evil.example"),
    "no audience": lambda i: i.token(without=("aud",)),
    "another issuer": lambda i: i.token(iss="https://elsewhere.example"),
    "an issuer that begins alike": lambda i: i.token(iss=i.address + "/"),
    "no issuer": lambda i: i.token(without=("iss",)),
    "an issuer that is a list": lambda i: forged(i, iss=[i.address]),
    "another repository": lambda i: i.token(repository="owner/shop2"),
    "a repository of another case": lambda i: i.token(repository="Owner/Shop"),
    "another ref": lambda i: i.token(ref="refs/heads/main2"),
    "a pull request": lambda i: i.token(ref="refs/pull/1/merge"),
    "no ref": lambda i: i.token(without=("ref",)),
    "a ref that is a list": lambda i: i.token(ref=["refs/heads/main"]),
    "expired": lambda i: i.token(exp=int(NOW()) - 60),
    "no end": lambda i: i.token(without=("exp",)),
    "an end that is a word": lambda i: forged(i, exp="soon"),
    "made in the future": lambda i: i.token(iat=int(NOW()) + 120),
    "no beginning": lambda i: i.token(without=("iat",)),
    "good in the future": lambda i: i.token(nbf=int(NOW()) + 120),
    "no time from which it is good": lambda i: i.token(without=("nbf",)),
    "an unknown key": lambda i: i.token(headers={"kid": "nobody's"}),
    "no name of a key": lambda i: without_kid(i),
    "a key that is a number": lambda i: with_header(i, {"alg": "RS256", "kid": 7}),
    "no signature": lambda i: with_header(i, {"alg": "none", "kid": "first"}, b""),
    "NONE in capitals": lambda i: with_header(i, {"alg": "NONE", "kid": "first"}, b""),
    "signed with the public key": lambda i: hs256(i),
    "signed with another key": lambda i: forged_with_another_key(i),
    "a changed claim": lambda i: with_changed_claim(i),
    "its own key within": lambda i: with_jwk_within(i),
    "another algorithm of the same key": lambda i: as_rs512(i),
    "JSON within JSON": lambda i: nested(),
    "a header that is no object": lambda i: f"{encoded([1])}.{encoded({})}.",
    "claims that are no object": lambda i: f"{encoded({'alg': 'RS256'})}.{encoded([])}.x",
    "times without an end": lambda i: forged(i, exp=float("inf")),
}


def encoded(words):
    """Return an encoded part of a token."""
    return base64.urlsafe_b64encode(json.dumps(words).encode()).decode().rstrip("=")


def with_header(issuer, header, signature=b"x" * 32):
    """Return a token with a custom header."""
    end = base64.urlsafe_b64encode(signature).decode().rstrip("=")
    return f"{encoded(header)}.{encoded(issuer.claims())}.{end}"


def forged(issuer, **claims):
    """Return a token that the issuer has signed although a library would refuse to."""
    private, _ = issuer.private["first"]
    body = f"{encoded({'alg': 'RS256', 'kid': 'first'})}.{encoded(issuer.claims(**claims))}"
    signature = jwt.get_algorithm_by_name("RS256").sign(body.encode(), private)
    return f"{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def without_kid(issuer):
    """Return a token that does not name its key."""
    private, _ = issuer.private["first"]
    return jwt.encode(issuer.claims(), private, algorithm="RS256")


def hs256(issuer):
    """Return a token that uses the public key as a shared secret."""
    secret = issuer.public_pem()
    body = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{encoded(issuer.claims())}"
    import hashlib
    import hmac

    signature = hmac.new(secret, body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def forged_with_another_key(issuer):
    """Return a token signed by a foreign key with the same name."""
    other = Issuer()
    try:
        return jwt.encode(
            issuer.claims(),
            other.private["first"][0],
            algorithm="RS256",
            headers={"kid": "first"},
        )
    finally:
        other.stop()


def with_changed_claim(issuer):
    """Return a token whose claims were changed after signing."""
    head, _, end = issuer.token(ref="refs/heads/other").split(".")
    return f"{head}.{encoded(issuer.claims())}.{end}"


def with_jwk_within(issuer):
    """Return a token that contains the key to verify it with."""
    other = Issuer()
    try:
        return jwt.encode(
            issuer.claims(),
            other.private["first"][0],
            algorithm="RS256",
            headers={
                "kid": "first",
                "jwk": other.published[0],
                "jku": other.address + KEYS,
            },
        )
    finally:
        other.stop()


def as_rs512(issuer):
    """Return a token signed by the right key with an algorithm that is not allowed for
    it."""
    private, _ = issuer.private["first"]
    return jwt.encode(issuer.claims(), private, algorithm="RS512", headers={"kid": "first"})


def nested():
    """Return a token whose claims are nested too deeply to decode."""
    deep = base64.urlsafe_b64encode(b"[" * 4000 + b"]" * 0).decode().rstrip("=")
    return f"{encoded({'alg': 'RS256', 'kid': 'first'})}.{deep}.xx"


@pytest.mark.parametrize("what", WRONG)
def test_anything_wrong_is_refused(issuer, trusted, what):
    """The valid token is still accepted afterwards."""
    token = WRONG[what](issuer)
    assert actor_of(token).access_error.http_status == 401
    assert is_taken(issuer.token())


def test_a_list_of_values_means_any_of_them(issuer, trusted):
    """Exactly one of these, and no longer value with the same prefix."""
    trusted(
        claims={
            "repository": ["owner/shop", "owner/stock"],
            "ref": "refs/heads/main",
        }
    )
    assert is_taken(issuer.token())
    assert is_taken(issuer.token(repository="owner/stock"))
    assert not is_taken(issuer.token(repository="owner/stock/x"))
    assert is_taken(issuer.token(aud=["https://other.example", AUDIENCE]))


def test_the_first_entry_that_fits_decides(issuer, trusted):
    """The main branch may apply, and all others of the repository may read."""
    trusted({"claims": {"repository": "owner/shop"}, "scopes": ["read"], "name": "ci"})
    assert actor_of(issuer.token()).scopes == {Scope.APPLY}
    other = actor_of(issuer.token(ref="refs/heads/other"))
    assert other.scopes == {Scope.READ}
    assert other.name == "ci:owner/shop@refs/heads/other"
    assert actor_of(issuer.token(repository="x/y")).access_error.code == "unauthenticated"


def test_what_does_not_fit_is_named(issuer, trusted):
    """The expected values are not disclosed."""
    access_error = actor_of(issuer.token(ref="refs/heads/other")).access_error
    assert "'ref' differs" in access_error.message
    assert "refs/heads/main" not in str(access_error)


def test_another_network_is_refused(issuer, trusted):
    """As for tokens of the settings."""
    trusted(networks=["192.0.2.0/24"])
    token = issuer.token()
    assert actor_of(token).access_error.code == "forbidden"
    assert actor_of(token, REMOTE_ADDR="192.0.2.1").access_error is None


def test_a_new_key_is_had_when_a_token_names_it(issuer, trusted, monkeypatch):
    """Repeated unknown keys do not cause repeated requests to the issuer."""
    assert is_taken(issuer.token())
    issuer.rotate("second")
    assert not is_taken(issuer.token())
    assert len(issuer.health.asked) == 2  # the keys were just fetched
    monkeypatch.setattr(jwks, "REFETCH_SECONDS", 0.0)
    assert is_taken(issuer.token())
    monkeypatch.setattr(jwks, "REFETCH_SECONDS", 60.0)
    asked = len(issuer.health.asked)
    for _ in range(20):
        assert not is_taken(issuer.token(headers={"kid": "nobody's"}))
    assert len(issuer.health.asked) == asked


def test_an_issuer_that_is_down_does_not_matter_for_a_while(issuer, trusted, monkeypatch):
    """The cached keys stay valid, up to a bound."""
    token = issuer.token()
    assert is_taken(token)
    issuer.health.status = 500
    monkeypatch.setattr(jwks, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "REFETCH_SECONDS", 0.0)
    assert is_taken(token)
    assert len(issuer.health.asked) > 2
    monkeypatch.setattr(jwks, "STALE_SECONDS", 0.0)
    access_error = actor_of(token).access_error
    assert (access_error.http_status, access_error.code) == (503, "issuer_unavailable")


def an_hour_of_rubbish(health):
    """Make the server send one byte at a time."""
    health.drips = True


def hang(health):
    """Make the server never respond."""
    health.hangs = threading.Event()


ILL = {
    "an error": lambda h: setattr(h, "status", 500),
    "too much": lambda h: setattr(h, "padding", jwks.MAX_RESPONSE_BYTES),
    "drips": an_hour_of_rubbish,
    "hangs": hang,
    "no JSON": lambda h: setattr(h, "content", b"<html>"),
    "no object": lambda h: setattr(h, "content", b"[]"),
    "JSON within JSON": lambda h: setattr(h, "content", b"[" * 100_000),
    "no keys": lambda h: setattr(h, "content", b'{"keys": 7}'),
    "another name": lambda h: setattr(h, "describes_itself_as", "https://x.example"),
}


@pytest.mark.parametrize("how", ILL)
def test_an_issuer_that_is_ill_is_not_waited_for(issuer, trusted, how, monkeypatch):
    """The fetch is bounded in time and size, and the error is clear."""
    ILL[how](issuer.health)
    began = time.monotonic()
    access_error = actor_of(issuer.token()).access_error
    assert time.monotonic() - began < 4
    assert (access_error.http_status, access_error.code) == (503, "issuer_unavailable")
    assert issuer.address in access_error.message
    began = time.monotonic()
    assert not is_taken(issuer.token())  # fails at once: the fetch has just failed
    assert time.monotonic() - began < 0.5


def test_a_redirect_is_not_followed(issuer, trusted):
    """Keys come from the issuer's URL only."""
    other = Issuer()
    try:
        issuer.health.redirects_to = other.address
        assert not is_taken(issuer.token())
        assert other.health.asked == []
    finally:
        other.stop()


def test_many_at_once_ask_once(issuer, trusted):
    """The other threads wait for the response to the first request."""
    token = issuer.token()
    assert at_once(8, lambda _: actor_of(token).access_error) == [None] * 8
    assert issuer.health.asked == [DISCOVERY, KEYS]


def test_nobody_waits_who_can_do_with_what_is_known(issuer, trusted, monkeypatch):
    """While one thread fetches the keys again, the others use the cached ones."""
    token = issuer.token()
    assert is_taken(token)
    monkeypatch.setattr(jwks, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "REFETCH_SECONDS", 0.0)
    issuer.health.hangs = threading.Event()
    slow = threading.Thread(target=is_taken, args=(token,))
    slow.start()
    deadline = time.monotonic() + 10
    while len(issuer.health.asked) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(issuer.health.asked) == 3
    began = time.monotonic()
    assert is_taken(token)
    assert time.monotonic() - began < 0.5
    issuer.health.hangs.set()
    slow.join(10)


@pytest.mark.parametrize("how", ["dict", "file", "address"])
def test_keys_may_stand_in_the_settings(issuer, trusted, how, tmp_path):
    """Then the keys are not fetched; or only their URL is not looked up."""
    found = {"keys": issuer.published}
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(found))
    words: dict[str, dict[str, Any]] = {
        "dict": {"jwks": found},
        "file": {"jwks": str(file)},
        "address": {"jwks_uri": issuer.address + KEYS},
    }
    trusted(**words[how])
    assert is_taken(issuer.token())
    assert issuer.health.asked == ([KEYS] if how == "address" else [])
    assert not is_taken(issuer.token(headers={"kid": "other"}))


@pytest.mark.parametrize(
    "words",
    [
        {"use": "enc"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": "ES256"},
        {"alg": ["RS256"]},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"n": "not a number!"},
        {"kid": None},
        {"bits": 1024},
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_key_that_is_not_for_this_is_no_key(issuer, trusted, words):
    """Regardless of the token."""
    issuer.rotate("bad", **words)
    issuer.add("good")
    name = "bad" if words.get("kid", "") is not None else None
    token = issuer.token("bad", headers={"kid": name} if name else {"kid": "bad"})
    assert not is_taken(token)
    assert is_taken(issuer.token("good"))


def test_without_the_extra_it_is_told(issuer, trusted, monkeypatch):
    """By the check, and to a client that sends such a token."""
    from migration_route import checks

    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert "migration_route.E003" in [found.id for found in checks.check_settings(None)]
    monkeypatch.setitem(__import__("sys").modules, "jwt", None)
    access_error = actor_of(issuer.__class__.__name__ and TOKEN_LIKE).access_error
    assert (access_error.http_status, access_error.code) == (503, "issuer_unavailable")
    assert "[oidc]" in access_error.hint


TOKEN_LIKE = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln"


def test_without_oidc_it_is_a_token_that_nobody_knows():
    """No request is sent."""
    actor = actor_of(TOKEN_LIKE)
    assert actor.access_error.message == "This token is unknown."


@pytest.mark.usefixtures("database")
def test_what_a_pipeline_does_is_on_the_ledger_with_its_claims(issuer, trusted):
    """A denied token of an unknown pipeline is recorded with its own claims."""
    install()
    token, other = issuer.token(), issuer.token(repository="eve/shop")
    for each in (token, other):
        body = json.dumps({"fingerprint": ""})
        headers = {"Authorization": f"Bearer {each}"}
        answer = Client().post(
            "/migrations/api/v1/runs", body, "application/json", headers=headers
        )
        assert answer.status_code == (428 if each == token else 401)
        cancel = "/migrations/api/v1/runs/" + "0" * 32 + "/resolve"
        answer = Client().post(
            cancel, '{"reason": "x"}', "application/json", headers=headers
        )
        assert answer.status_code in {401, 403, 404}
    found = list_entries(before=None, limit=20)
    denied = [e for e in found if e.action == "denied"]
    assert {e.facts["credential"]["claims"]["repository"] for e in denied} >= {"eve/shop"}
    assert all(e.actor_name == "" for e in denied if e.facts["code"] == "unauthenticated")
    text = json.dumps([e.facts for e in found])
    assert token not in text
    assert token.rpartition(".")[2] not in text
