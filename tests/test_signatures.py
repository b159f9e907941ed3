"""Tests that signatures computed without Django are those of Django."""

from __future__ import annotations

import pytest
from django.core.signing import Signer
from hypothesis import given
from hypothesis import strategies as st

from migration_route.core.signatures import is_signed, signature

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
KEYS = st.one_of(TEXT.filter(bool), st.binary(min_size=1, max_size=200))


@given(text=TEXT, key=KEYS, salt=TEXT.filter(bool))
def test_a_signature_is_the_one_of_django(text, key, salt):
    """For any text, key and salt: keys can also be bytes."""
    assert signature(text, key=key, salt=salt) == Signer(key=key, salt=salt).signature(text)


def test_any_of_the_keys_is_accepted():
    """As Django accepts SECRET_KEY_FALLBACKS."""
    found = Signer(key="old", salt="salt").signature("text")
    assert is_signed("text", found, keys=["new", "old"], salt="salt")
    assert not is_signed("text", found, keys=["new"], salt="salt")
    assert not is_signed("text", found, keys=[], salt="salt")


@pytest.mark.parametrize(
    ("text", "salt", "cut"),
    [("other", "salt", 0), ("text", "other", 0), ("text", "salt", 1)],
)
def test_another_text_salt_or_signature_is_not_accepted(text, salt, cut):
    found = signature("text", key="key", salt="salt")
    assert not is_signed(text, found[cut:], keys=["key"], salt=salt)


def test_a_signature_that_is_not_ascii_is_not_accepted():
    """Comparing it raises nothing."""
    assert not is_signed("text", "ä\ufffd", keys=["key"], salt="salt")
