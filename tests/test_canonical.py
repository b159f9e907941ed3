"""Tests of canonical JSON and its digest."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import strategies as st

from migration_route.core.canonical_json import JsonValue, canonical_json, digest
from migration_route.core.enums import StepState

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_reads_as_the_same_value(value):
    """Canonical JSON loses nothing, and reading and rewriting it changes nothing."""
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_count(value):
    assert digest(dict(reversed(value.items()))) == digest(value)


@given(VALUES, VALUES)
def test_values_that_differ_have_digests_that_differ(left, right):
    """Only equal values have the same digest."""
    same = canonical_json(left) == canonical_json(right)
    assert (digest(left) == digest(right)) is same


def test_the_text_is_ascii_without_spaces():
    """The text has the same bytes in every encoding that a database may use."""
    assert canonical_json({"b": [1, "ä"], "a": None}) == '{"a":null,"b":[1,"\\u00e4"]}'


def test_the_digest_is_the_one_that_other_tools_compute():
    """The digest is the SHA-256 of the canonical text: `printf '{}' | sha256sum`."""
    expected = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({}) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, object(), {1, 2}, b"x"])
def test_what_json_cannot_say_is_refused(value):
    """Two processes cannot encode such a value differently."""
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored(JsonValue):
    text: str
    parts: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def test_a_stored_value_may_contain_subclasses_of_str():
    """The description of an operation can be a `SafeString`, as `format_html` returns."""
    value = _Stored(text=mark_safe("<b>"), facts={"state": StepState.APPLIED})
    assert canonical_json(value.to_dict()) == (
        '{"facts":{"state":"applied"},"parts":[],"text":"<b>"}'
    )
    assert type(value.to_dict()["text"]) is str


def test_a_stored_value_refuses_what_json_cannot_say():
    with pytest.raises(TypeError, match="object cannot be stored as JSON"):
        _Stored(text="", facts={"a": object()}).to_dict()


def test_a_stored_value_is_read_without_its_optional_fields():
    """A later version can add a field with a default."""
    assert _Stored.from_dict({"text": "a"}) == _Stored(text="a")
    with pytest.raises(ValueError, match="Expected `str`"):
        _Stored.from_dict({"text": 1})
