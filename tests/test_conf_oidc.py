"""Tests of reading OIDC and of naming each of its mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from migration_route.conf import read_settings

ENTRY: dict[str, Any] = {
    "issuer": "https://issuer.example",
    "audience": "https://shop.example",
    "claims": {"repository": "owner/shop"},
    "scopes": ["plan", "apply"],
}
GITHUB = {**ENTRY, "issuer": "https://token.actions.githubusercontent.com"}
GITLAB = {**ENTRY, "issuer": "https://gitlab.com"}


def test_an_entry_is_read():
    """The entry has its defaults."""
    found = read_settings({"OIDC": [ENTRY]})
    assert found.problems == ()
    (issuer,) = found.oidc
    assert issuer.name == "issuer.example"
    assert issuer.audience == ("https://shop.example",)
    assert issuer.claims == {"repository": ("owner/shop",)}
    assert issuer.jwks_uri is None


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("x", "must be a dict"),
        ({**ENTRY, "claim": {}}, "unknown keys"),
        ({**ENTRY, "issuer": None}, "'issuer' must be a URL"),
        ({**ENTRY, "issuer": "http://issuer.example"}, "https"),
        ({**ENTRY, "issuer": "http://issuer.example", "insecure": True}, "https"),
        ({**ENTRY, "issuer": "https://user:word@issuer.example"}, "https"),
        ({**ENTRY, "issuer": "file:///etc/passwd", "insecure": True}, "https"),
        ({**ENTRY, "issuer": "https://[x"}, "https"),
        ({**ENTRY, "issuer": "https://issuer.example:port"}, "https"),
        ({**ENTRY, "insecure": 1}, "'insecure'"),
        ({**ENTRY, "audience": ""}, "'audience'"),
        ({**ENTRY, "audience": []}, "'audience'"),
        ({**ENTRY, "claims": {}}, "'claims' must be a dict"),
        ({**ENTRY, "claims": {"repository": []}}, "'repository'"),
        ({**ENTRY, "claims": {"repository": "owner/*"}}, "exactly"),
        ({**ENTRY, "claims": {"repository": None}}, "'repository'"),
        ({**ENTRY, "scopes": ["approve"]}, "users only"),
        ({**ENTRY, "scopes": []}, "needs 'scopes'"),
        ({**ENTRY, "databases": "default"}, "'databases'"),
        ({**ENTRY, "networks": ["x"]}, "'networks'"),
        ({**ENTRY, "name": "two words"}, "'name'"),
        ({**ENTRY, "jwks": {}}, "'jwks'"),
        ({**ENTRY, "jwks": "/nowhere/keys.json"}, "'jwks'"),
        ({**ENTRY, "jwks": {"keys": []}, "jwks_uri": "https://x.example"}, "both"),
        ({**ENTRY, "jwks_uri": "http://x.example"}, "'jwks_uri'"),
        ({**ENTRY, "algorithms": ["HS256"]}, "'algorithms'"),
        ({**ENTRY, "algorithms": ["none"]}, "'algorithms'"),
        ({**ENTRY, "algorithms": []}, "'algorithms'"),
        ({**GITHUB, "claims": {"ref": "refs/heads/main"}}, "signs tokens for all"),
        ({**GITLAB, "claims": {"ref": "main"}}, "signs tokens for all"),
    ],
)
def test_each_mistake_is_named_and_lets_nobody_in(entry, word):
    """A mistake is named by its position, and its entry authenticates no token."""
    found = read_settings({"OIDC": [entry]})
    (problem,) = found.problems
    assert problem.startswith("OIDC[0]: ")
    assert word in problem
    assert found.oidc == ()


def test_entries_of_one_issuer_agree_on_its_keys():
    """Otherwise the key that a token is checked with would be ambiguous."""
    other = {**ENTRY, "jwks_uri": "https://keys.example"}
    found = read_settings({"OIDC": [ENTRY, other]})
    assert "must have the same 'jwks'" in found.problems[0]
    assert found.oidc == ()


def test_no_list_is_a_mistake():
    """As for TOKENS."""
    assert read_settings({"OIDC": ENTRY}).problems == ("OIDC must be a list of dicts.",)
